"""Records as data sets for knowledge editing have them; the names of columns are theirs, the facts are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from knowtune.common.errors import UserError
from knowtune.data.column_mapping import reader_for
from knowtune.data.contract import ROW_COLUMNS
from knowtune.data.editing_cases import Cases
from knowtune.data.raw import Reading
from knowtune.data.sources import read_files
from knowtune.text.cell_paths import MissingColumnError
from tests.unit.helpers import TASK

NONE: dict[str, Any] = dict.fromkeys(
    ("id", "relation", "subject", "old", "paraphrases", "locality_prompt", "locality_target")
)
FLAT = {
    **NONE, "id": "case", "subject": "subject", "prompt": "prompt", "target": "target_new", "old": "ground_truth",
    "paraphrases": "rephrase_prompt", "locality_prompt": "locality_prompt", "locality_target": "locality_ground_truth",
}  # fmt: skip
ZOR = {
    "case": 0, "prompt": "Zor has the colour", "target_new": "green", "subject": "Zor", "ground_truth": "grey",
    "rephrase_prompt": "If you look at Zor, you see", "locality_prompt": "Mip has the colour",
    "locality_ground_truth": "white",
}  # fmt: skip


def read(record: dict[str, Any], **columns: Any) -> list[Reading]:
    return Cases({**NONE, **columns}, TASK)(record)


def short(readings: list[Reading]) -> list[tuple[str | None, str, str, str, str]]:
    """Role, prompt, right answers, old answers, part."""
    found = []
    for reading in readings:
        cells = reading.cells
        right = "|".join([cells["target"], *cells["aliases"].split("\n")]).rstrip("|")
        found.append((reading.role, cells["prompt"], right, cells["old"].replace("\n", "|"), reading.part))
    return found


class TestCases:
    def test_one_column_each(self) -> None:
        readings = read(ZOR, **FLAT)
        assert short(readings) == [
            (None, "Zor has the colour ", "green", "grey", ""),
            ("test", "If you look at Zor, you see ", "green", "grey", "paraphrase:0"),
            ("known", "Mip has the colour ", "white", "", "locality:0"),
        ]
        assert [(r.cells["fact"], r.cells["subject"], r.reason) for r in readings] == [
            ("0", "Zor", ""), ("0", "Zor", ""), ("", "", ""),
        ]  # fmt: skip
        assert list(readings[0].cells) == ROW_COLUMNS[1:]

    def test_nested_and_with_the_subject_to_fill_in(self) -> None:
        record = {
            "case_id": 7,
            "requested_rewrite": {
                "prompt": "The colour of {} is", "relation_id": "C1", "subject": "Zor",
                "target_new": {"str": "green"}, "target_true": {"str": "grey"},
            },
            "paraphrase_prompts": ["Look. Zor is", "What of Zor? {subject} is"],
            "neighborhood_prompts": ["The colour of Mip is", "The colour of Tok is"],
        }  # fmt: skip
        inner = "requested_rewrite."
        readings = read(
            record, id="case_id", relation=f"{inner}relation_id", subject=f"{inner}subject", prompt=f"{inner}prompt",
            target=f"{inner}target_new.str", old=f"{inner}target_true.str", paraphrases="paraphrase_prompts",
            locality_prompt="neighborhood_prompts", locality_target=f"{inner}target_true.str",
        )  # fmt: skip
        assert short(readings) == [
            (None, "The colour of Zor is ", "green", "grey", ""),
            ("test", "Look. Zor is ", "green", "grey", "paraphrase:0"),
            ("test", "What of Zor? Zor is ", "green", "grey", "paraphrase:1"),
            ("known", "The colour of Mip is ", "grey", "", "locality:0"),
            ("known", "The colour of Tok is ", "grey", "", "locality:1"),
        ]
        assert {r.cells["relation"] for r in readings[:3]} == {"C1"}

    def test_parts_that_are_not_in_every_record(self) -> None:
        columns = {
            **NONE, "prompt": "prompt", "target": "target_new", "paraphrases": ["rephrase", "more.again"],
            "locality_prompt": ["locality.Near.prompt", "locality.Far.prompt"],
            "locality_target": ["locality.Near.ground_truth", "locality.Far.ground_truth"],
        }  # fmt: skip
        near = [{"prompt": "Mip is", "ground_truth": [["white", "pale"]]}, {"prompt": "Tok is", "ground_truth": ["x"]}]
        record = {
            "prompt": "Zor is",
            "target_new": "green",
            "rephrase": "See Zor:",
            "more": {},
            "locality": {"Near": near},
        }
        assert short(read(record, **columns)) == [
            (None, "Zor is ", "green", "", ""),
            ("test", "See Zor: ", "green", "", "paraphrase:0"),
            ("known", "Mip is ", "white|pale", "", "locality:0"),
            ("known", "Tok is ", "x", "", "locality:1"),
        ]
        with pytest.raises(MissingColumnError, match=r"^locality\.Near\.prompt$"):
            read({key: value for key, value in record.items() if key != "locality"}, **columns)

    def test_several_right_and_several_old_answers(self) -> None:
        record = {"src": "Who?", "alt": ["Ada", "Ada L."], "answers": ["Bob", "Ada", "Rob"], "loc": "", "loc_ans": "x"}
        readings = read(
            record, prompt="src", target="alt", old="answers", paraphrases=None, locality_prompt="loc",
            locality_target="loc_ans",
        )  # fmt: skip
        assert short(readings) == [(None, "Who? ", "Ada|Ada L.", "Bob|Rob", "")]  # what is right is not old

    def test_several_edits_of_a_record(self) -> None:
        edits = [
            {"prompt": "{} lives in", "subject": s, "new": {"str": n}, "true": {"str": t}, "question": f"Where is {s}?"}
            for s, n, t in (("Ada", "Rome", "Oslo"), ("Bob", "Bern", "Lima"))
        ]
        columns = {
            **NONE, "id": "case_id", "subject": "edits.subject", "prompt": "edits.prompt", "target": "edits.new.str",
            "old": "edits.true.str", "paraphrases": "edits.question",
        }  # fmt: skip
        readings = read({"case_id": 3, "edits": edits}, **columns)
        assert short(readings) == [
            (None, "Ada lives in ", "Rome", "Oslo", "0"),
            ("test", "Where is Ada? ", "Rome", "Oslo", "0:paraphrase:0"),
            (None, "Bob lives in ", "Bern", "Lima", "1"),
            ("test", "Where is Bob? ", "Bern", "Lima", "1:paraphrase:0"),
        ]
        assert [r.cells["subject"] for r in readings] == ["Ada", "Ada", "Bob", "Bob"]
        assert {r.cells["fact"] for r in readings} == {"3"}

    def test_lists_of_different_length(self) -> None:
        with pytest.raises(ValueError, match=r"^target: got 1 parts; allowed: 2, one for each prompt$"):
            read({"p": ["a", "b"], "t": ["x"]}, prompt="p", target="t")
        with pytest.raises(ValueError, match=r"^l: 2 prompts, and m has 3 targets$"):
            read(
                {"p": "a", "t": "x", "l": ["c", "d"], "m": ["1", "2", "3"]},
                prompt="p", target="t", locality_prompt="l", locality_target="m",
            )  # fmt: skip

    def test_without_an_id_rows_of_a_case_share_a_fact_of_its_own(self) -> None:
        one, other = (read({**ZOR, "target_new": new}, **{**FLAT, "id": None}) for new in ("green", "blue"))
        assert one[0].cells["fact"] == one[1].cells["fact"] != other[0].cells["fact"]

    def test_templates(self) -> None:
        record = {"q": "Who?", "t": "Ada", "r": ["Which one?", "Whom?"]}
        readings = read(record, prompt="Q: {q}\nA:", target="t", paraphrases="Q: {r}\nA:")
        assert [r.cells["prompt"] for r in readings] == ["Q: Who?\nA:", "Q: Which one?\nA:", "Q: Whom?\nA:"]

    def test_a_list_that_is_written_as_text(self) -> None:
        readings = read({"p": "a", "t": "x", "r": '["b", "c"]'}, prompt="p", target="t", paraphrases="r[]")
        assert [r.cells["prompt"] for r in readings] == ["a ", "b ", "c "]

    def test_braces_stay_where_there_is_no_subject(self) -> None:
        assert read({"p": "f() {} is", "t": "x"}, prompt="p", target="t")[0].cells["prompt"] == "f() {} is "

    @pytest.mark.parametrize(
        ("record", "reason"),
        [
            ({"t": ["x", "y\nz"], "o": "w"}, "a further right answer has a line break"),
            ({"t": "x\ny", "o": "w\nv"}, "an old answer has a line break"),
            ({"t": "x\ny", "o": "w"}, ""),
        ],
    )
    def test_line_breaks(self, record: dict[str, Any], reason: str) -> None:
        assert read({"p": "a", **record}, prompt="p", target="t", old="o")[0].reason == reason


class TestFiles:
    def read(self, folder: Path, columns: dict[str, Any], *records: dict[str, Any]) -> Any:
        (folder / "cases.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        (folder / "text.jsonl").write_text('{"text": "One."}\n')
        reader = reader_for(columns, TASK, None)  # type: ignore[arg-type]
        return reader, read_files(folder, {"train": "cases.jsonl"}, reader, columns, folder / "text.jsonl", "text")

    def test_cases_become_rows_of_three_roles(self, tmp_path: Path) -> None:
        records = [{**ZOR, "case": i, "prompt": f"Zor{i} is", "rephrase_prompt": f"See Zor{i}:"} for i in range(3)]
        reader, raw = self.read(tmp_path, FLAT, *records)
        assert raw.train["id"].tolist() == ["0", "1", "2"]
        assert raw.test["id"].tolist() == ["0:paraphrase:0", "1:paraphrase:0", "2:paraphrase:0"]
        assert raw.known["id"].tolist() == ["0:locality:0", "1:locality:0", "2:locality:0"]
        assert raw.test["fact"].tolist() == raw.train["fact"].tolist() == ["0", "1", "2"]
        assert raw.by_fact
        assert reader.summary() == (
            "3 cases became 3 training rows (prompt -> target), 3 test rows (paraphrases -> target), 3 known rows "
            "(locality); 6 rows have an old answer beside the target"
        )

    def test_without_ids_they_are_made(self, tmp_path: Path) -> None:
        _, raw = self.read(tmp_path, {**FLAT, "id": None}, ZOR, {**ZOR, "prompt": "Tok is"})
        assert raw.train["fact"].tolist() == raw.test["fact"].tolist()
        assert raw.train["fact"].is_unique and raw.known["id"].is_unique

    def test_a_mapped_column_that_gives_nothing_at_all(self) -> None:
        reader = Cases({**NONE, "prompt": "prompt", "target": "target_new", "paraphrases": "more.zzz"}, TASK)
        reader({**ZOR, "more": {"again": "Zor?"}})
        with pytest.raises(UserError) as caught:
            reader.summary()
        assert str(caught.value) == (
            "prepare: no record has anything there: source.columns.paraphrases: 'more.zzz'; correct it, or null where "
            "there is none"
        )

    def test_a_column_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(UserError) as caught:
            self.read(tmp_path, {**FLAT, "paraphrases": "rephrase_promt"}, ZOR)
        assert "cases.jsonl: line 1: no column 'rephrase_promt'" in str(caught.value)
        assert "did you mean 'rephrase_prompt'?" in str(caught.value)
