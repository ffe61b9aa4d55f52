from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd

from knowtune.evaluation.filter_scores import score_filter
from knowtune.evaluation.leaderboard import Entry
from knowtune.evaluation.push_away import PushAway
from knowtune.evaluation.report.contents import Report
from knowtune.evaluation.report.write import write_report
from knowtune.lineage.graph import Graph, Node
from tests.unit.evaluation.test_filter_scores import INJECTED, trained
from tests.unit.evaluation.test_interpolation import CURVE as CURVE_OF_ALPHA
from tests.unit.evaluation.test_leaderboard import ENTRIES, METRICS

CURVES = pd.DataFrame(
    [
        {"run": run, "seed": seed, "step": step, "split": split, "loss": 1.0 / step + seed / 10}
        for run in ("lora", "full")
        for seed in (0, 1)
        for step in (1, 2, 3)
        for split in ("train", "validation")
    ]
)
SUMMARY = {
    "facts": 5, "train": 20, "validation": 5, "retention": 3, "rejected": 1,
    "label_noise": {"empty": 2, "duplicate": 1}, "test": {"reliability": 7, "generalisation": 7, "locality": 8},
}  # fmt: skip


class TestPage:
    def page(
        self,
        folder: Path,
        curves: pd.DataFrame = CURVES,
        entries: list[Entry] = ENTRIES,
        **options: Any,
    ) -> str:
        score = score_filter(trained(10), INJECTED, pd.DataFrame({"id": ["r0", "r2", "r8", "r9"]}))
        report = Report(
            entries=entries,
            metrics=METRICS,
            axes=("forgotten", "generalisation"),
            filters={"clean": score},
            curves=curves,
            summary=SUMMARY,
            selection_plots={"fish": "<svg>what fish chose</svg>"},
            filter_plots={"near": "<svg>cut</svg>"},
            **options,
        )
        return write_report(report, folder).read_text("utf-8")

    def test_twice_equal_bytes(self, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        assert self.page(tmp_path) == self.page(tmp_path / "other")
        for name in (
            "index.html",
            "frontier.svg",
            "leaderboard.md",
            "leaderboard.json",
            "metrics.json",
            "filters.json",
        ):
            assert (tmp_path / name).read_bytes() == (tmp_path / "other" / name).read_bytes()

    def test_no_link_to_the_network_and_no_path(self, tmp_path: Path) -> None:
        text = self.page(tmp_path)
        outside = re.findall(r"[^\s\"'<>]*https?://[^\s\"'<>]*", re.sub(r"xmlns(:\w+)?=\"[^\"]*\"", "", text))
        assert outside == []
        assert not re.search(r"\b(src|href)=\"(?!#)", text)
        assert "@import" not in text
        assert "url(http" not in text
        for path in (str(tmp_path), str(Path(__file__).parents[4]), "/tmp", "/home"):
            assert path not in text

    def test_what_a_method_draws_of_a_run_is_on_it(self, tmp_path: Path) -> None:
        text = self.page(tmp_path, run_plots={"kasa": "<svg>singular values</svg>"})
        assert '<h3>What kasa trained</h3>\n<div class="whole"><svg>singular values</svg></div>' in text
        assert "kasa trained" not in self.page(tmp_path)

    def test_where_each_model_comes_from(self, tmp_path: Path) -> None:
        assert 'id="lineage"' not in self.page(tmp_path)
        graph = Graph()
        rows = graph.add(Node("rows", "", facts={"train": 20, "facts": 5, "rejected": 1}))
        kept = graph.add(Node("filter", "clean", facts={"rows": {"read": 20, "kept": 17, "dropped": {}}}), [rows])
        graph.add(Node("adapter", "lora/seed-0", facts={"method": "lora", "weights_digest": "abcdefghi"}), [kept])
        text = self.page(tmp_path, lineage=graph).partition('id="lineage"')[2].partition("</details>")[0]
        assert "17 of 20 rows kept" in text
        assert '<td class="left">clean</td>' in text
        assert "<code>abcdefgh</code>" in text
        assert "make lineage MODEL=lora " in text

    def test_no_clock(self, tmp_path: Path) -> None:
        text = self.page(tmp_path)
        assert not re.search(r"20\d\d-\d\d-\d\d", text)
        assert "dc:date" not in text

    def test_cautions_stand_below_the_leaderboard(self, tmp_path: Path) -> None:
        text = self.page(tmp_path, known=(3, 8), cautions=["label '<b>' has no row"])
        assert "<li>Caution: label &#39;&lt;b&gt;&#39; has no row.</li>" in text
        assert "those lost; the base has 3 of 8 right (%)" in text
        assert "Caution" not in self.page(tmp_path)

    def test_a_constant_answer_is_a_line_and_no_point(self, tmp_path: Path) -> None:
        constant = Entry("majority", "always 'good'", None, None, ENTRIES[0].summary, constant=True)
        text = self.page(tmp_path, entries=[ENTRIES[0], constant, *ENTRIES[1:]])
        assert ">majority<small>always &#39;good&#39;</small></td>" in text
        assert "majority" not in "".join(re.findall("<svg.*?</svg>", text, flags=re.DOTALL))

    def test_numbers_and_names_are_on_it(self, tmp_path: Path) -> None:
        text = self.page(tmp_path)
        assert "5 new facts; 20 training rows (3 of them with\ninjected label noise); 1 rows rejected." in text
        assert "7\ngeneralisation, 8\nlocality examples and 3 texts" in text
        assert re.search(r'<td data-value="0.5"( class="best")?>50.0 ± 1.2</td>', text)
        cells = ["empty</td>", "2</td>", "1</td>", "50 %</td>", "25 %</td>", "20.0 %</td>"]
        assert f'<td>clean</td><td class="left">{"<td>".join(cells)}' in text
        assert '<td class="left">(sound rows)</td><td>6</td><td>2</td>' in text
        assert text.count("<svg") == 5  # the frontier, two learning curves, a selection, a filter

    def test_text_is_escaped_and_drawings_are_not(self, tmp_path: Path) -> None:
        text = self.page(tmp_path)
        assert "lora on &lt;clean&gt;" in text
        assert "<clean>" not in text
        assert "&lt;svg" not in text

    def test_what_was_pushed_away(self, tmp_path: Path) -> None:
        row: dict[str, Any] = {"model": "lora", "kind": "reliability", "count": 7, "before": "0.500"}
        row |= {"change": "-0.100", "pushed": "14.3 %", "by": "0.200 ± 0.100"}
        line: dict[str, Any] = {
            "fact": "f<1>",
            "kind": "reliability",
            "prompt": "Rome is",
            "target": "old",
            "base_answer": "new",
        }
        line |= {"answer": "blue", "before": "0.300", "after": "1.300", "seed": 2}
        text = self.page(tmp_path, pushed=PushAway([row], {"lora": [line]}, {"lora": {"new facts": [0.5, -0.5]}}))
        cells = ["lora", "reliability", 7, "0.500", "-0.100", "14.3 %", "0.200 ± 0.100"]
        assert "".join(f"<td>{cell}</td>" for cell in cells) in text.replace(' class="left"', "")
        cells = ["f&lt;1&gt;", "Rome is (reliability)", "old", "new", "blue", "0.300", "1.300", 2]
        assert "".join(f"<td>{cell}</td>" for cell in cells) in text.replace(' class="text"', "")
        assert text.count("<svg") == 6

    def test_without_answers_there_is_no_word_of_them(self, tmp_path: Path) -> None:
        assert "ushed" not in self.page(tmp_path)

    def test_what_every_alpha_learned_and_forgot(self, tmp_path: Path) -> None:
        text = self.page(tmp_path, interpolations={"w<i>se": CURVE_OF_ALPHA})
        cells = ["w&lt;i&gt;se", "0.25", "50.0 % ± 0.0", "0.0 % ± 0.0", "seed 0, seed 1"]
        assert "".join(f"<td>{cell}</td>" for cell in cells) in text.replace(' class="left"', "")
        assert "interpolation</h3>" not in self.page(tmp_path)

    def test_runs_without_a_curve(self, tmp_path: Path) -> None:
        none = pd.DataFrame({"run": [], "seed": [], "step": [], "split": [], "loss": []})
        assert self.page(tmp_path, none).count("<svg") == 3

    def test_metrics_that_were_not_measured(self, tmp_path: Path) -> None:
        assert self.page(tmp_path, entries=[ENTRIES[2]]).count("<svg") == 4  # no point, so no frontier
