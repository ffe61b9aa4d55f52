from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from knowtune.data.label_noise import KINDS
from knowtune.evaluation.push_away import PushAway
from knowtune.evaluation.report import Entry, arrow, leaderboard_markdown, leaderboard_rows, score_filter, write_page

METRICS = ["generalisation", "forgotten", "text_loss"]


def interval(mean: float, half_width: float | None, n: int = 3) -> dict[str, Any]:
    return {"mean": mean, "half_width": half_width, "n": n}


ENTRIES = [
    Entry(
        "base", "as it is", None, None,
        {"generalisation": interval(0.1, None, 1), "forgotten": interval(0, None, 1)},
    ),
    Entry(
        "lora", "lora on <clean>", 12345, 1.24e-6,
        {"generalisation": interval(0.5, 0.0123), "forgotten": interval(0.02, 0.01), "text_loss": interval(2, 0.5)},
    ),
    Entry("soup", "ties of lora", None, None, {"text_loss": interval(1.5, None, 1)}),
]  # fmt: skip
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
    "facts": 5, "train": 20, "validation": 5, "retention": 3, "rejected": 1, "planted": {"empty": 2, "duplicate": 1},
    "test": {"reliability": 7, "generalisation": 7, "locality": 8},
}  # fmt: skip


def trained(num: int) -> pd.DataFrame:
    return pd.DataFrame({"id": [f"r{i}" for i in range(num)]})


PLANTED = pd.DataFrame({"id": ["r0", "r1", "r2", "r3"], "kind": ["empty", "empty", "duplicate", "wrong_same"]})


class TestCells:
    def test_shares_are_percent(self) -> None:
        assert ENTRIES[0].cell("generalisation") == "10.0 %"
        assert ENTRIES[1].cell("generalisation") == "50.0 % ± 1.2"

    def test_nats_are_not(self) -> None:
        assert ENTRIES[1].cell("text_loss") == "2.000 ± 0.500"
        assert ENTRIES[2].cell("text_loss") == "1.500"

    def test_what_was_not_measured(self) -> None:
        assert ENTRIES[0].cell("text_loss") == "–"

    def test_arrows(self) -> None:
        assert [arrow(m) for m in METRICS] == ["↑", "↓", "↓"]


class TestLeaderboard:
    def test_rows(self) -> None:
        head, rows = leaderboard_rows(ENTRIES, METRICS)
        assert head == ["name", "what", "trained", "generalisation ↑", "forgotten ↓", "text_loss ↓", "parity"]
        assert rows == [
            ["base", "as it is", "–", "10.0 %", "0.0 %", "–", "–"],
            ["lora", "lora on <clean>", "12,345", "50.0 % ± 1.2", "2.0 % ± 1.0", "2.000 ± 0.500", "1.2e-06"],
            ["soup", "ties of lora", "–", "–", "–", "1.500", "–"],
        ]

    def test_how_much_the_base_knew_and_what_to_mind_stand_below(self) -> None:
        text = leaderboard_markdown(ENTRIES[:1], ["forgotten", "text_loss"], (3, 8), ["it says little", "it is cut"])
        assert text.endswith(
            "- forgotten ↓: of the known facts that the base has right, those lost; the base has 3 of 8 right (share)\n"
            "- text_loss ↓: loss on held-out text (nats per token)\n"
            "\nCaution: it says little.\nCaution: it is cut.\n"
        )

    def test_a_bar_in_a_cell_is_no_border(self) -> None:
        entry = Entry("majority", "always 'a|b'", None, None, {}, constant=True)
        assert "| majority | always 'a\\|b' | – | – | – |" in leaderboard_markdown([entry], ["forgotten"])

    def test_markdown(self) -> None:
        assert leaderboard_markdown(ENTRIES[:1], ["forgotten"]) == (
            "| name | what | trained | forgotten ↓ | parity |\n"
            "| --- | --- | --- | --- | --- |\n"
            "| base | as it is | – | 0.0 % | – |\n"
            "\n"
            "- forgotten ↓: of the known facts that the base has right, those lost (share)\n"
        )


class TestScoreFilter:
    def test_by_hand(self) -> None:
        found = score_filter(trained(10), PLANTED, pd.DataFrame({"id": ["r0", "r2", "r8", "r9"]}))
        assert (found["rows"], found["dropped"], found["sound"], found["sound_dropped"]) == (10, 4, 6, 2)
        assert list(found["kinds"]) == list(KINDS)
        assert found["kinds"]["empty"] == {
            "planted": 2, "found": 1, "recall": 0.5, "precision": 0.25, "base_rate": 0.2
        }  # fmt: skip
        assert found["kinds"]["duplicate"] == {
            "planted": 1, "found": 1, "recall": 1.0, "precision": 0.25, "base_rate": 0.1
        }  # fmt: skip
        assert found["kinds"]["wrong_same"] == {
            "planted": 1, "found": 0, "recall": 0.0, "precision": 0.0, "base_rate": 0.1
        }  # fmt: skip
        assert found["kinds"]["contradiction"] == {
            "planted": 0, "found": 0, "recall": None, "precision": 0.0, "base_rate": 0.0
        }  # fmt: skip

    def test_a_filter_that_drops_nothing(self) -> None:
        found = score_filter(trained(10), PLANTED, pd.DataFrame({"id": []}))
        assert (found["dropped"], found["sound_dropped"]) == (0, 0)
        assert found["kinds"]["empty"] == {
            "planted": 2, "found": 0, "recall": 0.0, "precision": None, "base_rate": 0.2
        }  # fmt: skip

    def test_the_counts_add_up(self) -> None:
        found = score_filter(trained(10), PLANTED, trained(7))
        assert sum(kind["found"] for kind in found["kinds"].values()) + found["sound_dropped"] == found["dropped"] == 7


class TestPage:
    def page(
        self,
        folder: Path,
        curves: pd.DataFrame = CURVES,
        entries: list[Entry] = ENTRIES,
        pushed: PushAway | None = None,
        **options: Any,
    ) -> str:
        score = score_filter(trained(10), PLANTED, pd.DataFrame({"id": ["r0", "r2", "r8", "r9"]}))
        path = folder / "report.html"
        pictures = {"fish": "<svg>what fish chose</svg>"}
        axes = ("forgotten", "generalisation")
        cuts = {"near": "<svg>cut</svg>"}
        write_page(path, entries, METRICS, {"clean": score}, curves, SUMMARY, axes, pictures, cuts, pushed, **options)
        return path.read_text("utf-8")

    def test_twice_equal_bytes(self, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        assert self.page(tmp_path) == self.page(tmp_path / "other")
        assert (tmp_path / "report.html").read_bytes() == (tmp_path / "other" / "report.html").read_bytes()

    def test_no_link_to_the_network_and_no_path(self, tmp_path: Path) -> None:
        text = self.page(tmp_path)
        outside = re.findall(r"[^\s\"'<>]*https?://[^\s\"'<>]*", re.sub(r"xmlns(:\w+)?=\"[^\"]*\"", "", text))
        assert outside == []
        assert not re.search(r"\b(src|href)=\"(?!#)", text)
        assert "<script" not in text
        assert "url(http" not in text
        for path in (str(tmp_path), str(Path(__file__).parents[3]), "/tmp", "/home"):
            assert path not in text

    def test_no_clock(self, tmp_path: Path) -> None:
        text = self.page(tmp_path)
        assert not re.search(r"20\d\d-\d\d-\d\d", text)
        assert "dc:date" not in text

    def test_cautions_stand_below_the_leaderboard(self, tmp_path: Path) -> None:
        text = self.page(tmp_path, known=(3, 8), cautions=["label '<b>' has no row"])
        assert "<li>Caution: label &#39;&lt;b&gt;&#39; has no row.</li>" in text
        assert "those lost; the base has 3 of 8 right (share)" in text
        assert "Caution" not in self.page(tmp_path)

    def test_a_constant_answer_is_a_line_and_no_point(self, tmp_path: Path) -> None:
        constant = Entry("majority", "always 'good'", None, None, ENTRIES[0].summary, constant=True)
        text = self.page(tmp_path, entries=[ENTRIES[0], constant, *ENTRIES[1:]])
        assert "<td>majority</td><td>always &#39;good&#39;</td>" in text
        assert len(re.findall("majority", text)) == 1  # in no legend of a picture

    def test_numbers_and_names_are_on_it(self, tmp_path: Path) -> None:
        text = self.page(tmp_path)
        assert "5 new facts; 20 training rows (3 of them damaged on\npurpose); 1 rows rejected." in text
        assert "7\ngeneralisation, 8\nlocality items and 3 texts" in text
        assert "<td>50.0 % ± 1.2</td>" in text
        assert (
            "<td>clean</td><td>empty</td><td>2</td><td>1</td>\n  <td>50 %</td>\n  <td>25 %</td>\n  <td>20.0 %</td>"
            in text
        )
        assert "<td>(sound rows)</td><td>6</td><td>2</td>" in text
        assert text.count("<svg") == 4

    def test_text_is_escaped_and_drawings_are_not(self, tmp_path: Path) -> None:
        text = self.page(tmp_path)
        assert "lora on &lt;clean&gt;" in text
        assert "<clean>" not in text
        assert "&lt;svg" not in text

    def test_what_was_pushed_away(self, tmp_path: Path) -> None:
        row = {"model": "lora", "kind": "reliability", "count": 7, "before": "0.500"}
        row |= {"change": "-0.100", "pushed": "14.3 %", "by": "0.200 ± 0.100"}
        line = {"fact": "f<1>", "kind": "reliability", "prompt": "Rome is", "target": "old", "base_answer": "new"}
        line |= {"answer": "blue", "before": "0.300", "after": "1.300", "seed": 2}
        text = self.page(tmp_path, pushed=PushAway([row], {"lora": [line]}, "<svg>how far</svg>"))
        cells = ["lora", "reliability", 7, "0.500", "-0.100", "14.3 %", "0.200 ± 0.100"]
        assert "".join(f"<td>{cell}</td>" for cell in cells) in text
        cells = ["f&lt;1&gt;", "Rome is (reliability)", "old", "new", "blue", "0.300", "1.300", 2]
        assert "".join(f"<td>{cell}</td>" for cell in cells) in text
        assert "<svg>how far</svg>" in text

    def test_without_answers_there_is_no_word_of_them(self, tmp_path: Path) -> None:
        assert "ushed" not in self.page(tmp_path)

    def test_runs_without_a_curve(self, tmp_path: Path) -> None:
        none = pd.DataFrame({"run": [], "seed": [], "step": [], "split": [], "loss": []})
        assert self.page(tmp_path, none).count("<svg") == 4

    def test_metrics_that_were_not_measured(self, tmp_path: Path) -> None:
        assert self.page(tmp_path, entries=[ENTRIES[2]]).count("<svg") == 4


@pytest.mark.parametrize("name", ["generalisation", "known"])
def test_the_arrow_is_the_metrics_own(name: str) -> None:
    assert arrow(name) == "↑"
