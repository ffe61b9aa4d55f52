from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from knowtune.contract import ROW_COLUMNS
from knowtune.errors import UserError
from knowtune.preparing import Prepared, Raw, prepare, read_embedded, read_jsonl

from .helpers import row, table

COLUMNS: dict[str, Any] = {
    "id": None,
    "fact": ["rel", "who"],
    "relation": "rel",
    "subject": "who",
    "wording": None,
    "prompt": "question",
    "target": "answer",
    "text": "text",
}
FILES: dict[str, Any] = {"train": "train.jsonl", "validation": None, "test": "test.jsonl", "known": None}
NO_DAMAGE = {"wrong": 0.0, "contradictions": 0.0, "duplicates": 0.0, "empties": 0.0}


def line(question: Any, answer: Any, who: str = "Ada", rel: str = "town", **more: Any) -> dict[str, Any]:
    return {"question": question, "answer": answer, "who": who, "rel": rel, **more}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "train.jsonl", line("Ada lives in", "Rome"), line("Bob lives in", "Oslo", "Bob"))
    write(tmp_path / "test.jsonl", line("The home of Ada is", "Rome"))
    write(tmp_path / "text.jsonl", {"text": "One."}, {"text": "Two."})
    return tmp_path


def read(folder: Path, files: dict[str, Any] | None = None, columns: dict[str, Any] | None = None) -> Raw:
    return read_jsonl(folder, folder / "text.jsonl", {**FILES, **(files or {})}, {**COLUMNS, **(columns or {})})


def fails(folder: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(folder, **options)
    return str(caught.value)


def raw(
    train: pd.DataFrame,
    test: pd.DataFrame,
    known: pd.DataFrame | None = None,
    validation: pd.DataFrame | None = None,
    texts: list[str] | None = None,
) -> Raw:
    found = pd.DataFrame({"id": [f"text:{i}" for i in range(len(texts or []))], "text": texts or []}, dtype="str")
    none = table()
    return Raw(train, none if validation is None else validation, test, none if known is None else known, found)


def run(source: Raw, **changes: Any) -> Prepared:
    options: dict[str, Any] = {
        "seed": 0, "max_facts": None, "max_known": None, "max_texts": None, "max_rejected": 0.0, "damage": NO_DAMAGE
    }  # fmt: skip
    return prepare(source, **{**options, **changes})


def refused(source: Raw, **changes: Any) -> str:
    with pytest.raises(UserError) as caught:
        run(source, **changes)
    return str(caught.value)


def facts(num: int) -> Raw:
    def worded(kind: str) -> pd.DataFrame:
        return table(*(row(f"{kind}:{i}", f"{kind} {i}", f"t{i}", fact=f"f{i}") for i in range(num)))

    known = table(*(row(f"known:{i}", f"known {i}", f"k{i}", fact=f"k{i}") for i in range(num)))
    return raw(worded("train"), worded("test"), known, worded("validation"), [f"Text {i}." for i in range(num)])


class TestReadJsonl:
    def test_columns_are_mapped(self, folder: Path) -> None:
        found = read(folder)
        assert found.train.columns.tolist() == ROW_COLUMNS
        first = found.train.iloc[0].to_dict()
        assert {k: v for k, v in first.items() if k != "id"} == {
            "fact": "town:Ada", "relation": "town", "subject": "Ada", "wording": "", "prompt": "Ada lives in",
            "target": "Rome",
        }  # fmt: skip
        assert found.texts.to_dict("list") == {"id": ["text:0", "text:1"], "text": ["One.", "Two."]}
        assert (len(found.validation), found.known.columns.tolist()) == (0, ROW_COLUMNS)

    def test_several_files_are_read_one_after_the_other(self, folder: Path) -> None:
        write(folder / "more.jsonl", line("Cleo lives in", "Bern", "Cleo"))
        found = read(folder, files={"train": ["train.jsonl", "more.jsonl"]})
        assert found.train["subject"].tolist() == ["Ada", "Bob", "Cleo"]

    def test_a_row_given_in_two_files_has_two_ids(self, folder: Path) -> None:
        write(folder / "more.jsonl", line("Ada lives in", "Rome"))
        found = read(folder, files={"train": ["train.jsonl", "more.jsonl"]})
        assert found.train["id"].is_unique

    def test_without_a_fact_column_the_prompt_is_the_fact(self, folder: Path) -> None:
        found = read(folder, columns={"fact": None, "relation": None, "subject": None})
        assert found.train["fact"].tolist() == ["Ada lives in", "Bob lives in"]
        assert found.train["relation"].tolist() == ["", ""]

    def test_one_fact_column(self, folder: Path) -> None:
        assert read(folder, columns={"fact": "who"}).train["fact"].tolist() == ["Ada", "Bob"]

    def test_given_ids_stay(self, folder: Path) -> None:
        write(folder / "train.jsonl", line("Ada lives in", "Rome", key="x1"), line("Bob lives in", "Oslo", key=7))
        write(folder / "test.jsonl", line("The home of Ada is", "Rome", key="x2"))
        assert read(folder, columns={"id": "key"}).train["id"].tolist() == ["x1", "7"]

    def test_made_ids_do_not_follow_the_order(self, folder: Path) -> None:
        before = read(folder).train.set_index("prompt")["id"]
        write(folder / "train.jsonl", line("Bob lives in", "Oslo", "Bob"), line("Ada lives in", "Rome"))
        after = read(folder).train.set_index("prompt")["id"]
        assert after.to_dict() == before.to_dict()
        assert before["Ada lives in"] != before["Bob lives in"]
        assert all(len(i) == 18 and i.endswith(":0") for i in before)

    def test_equal_rows_get_the_number_of_their_occurrence(self, folder: Path) -> None:
        write(folder / "train.jsonl", *[line("Ada lives in", "Rome")] * 3)
        ids = read(folder).train["id"].tolist()
        assert [i[-2:] for i in ids] == [":0", ":1", ":2"]
        assert len({i[:-2] for i in ids}) == 1

    @pytest.mark.parametrize(("value", "text"), [(None, ""), (" x ", "x"), (3, "3"), (1.5, "1.5"), (float("nan"), "")])
    def test_cells_are_text(self, folder: Path, value: Any, text: str) -> None:
        write(folder / "train.jsonl", line("Ada lives in", value))
        assert read(folder).train["target"].tolist() == [text]

    def test_blank_lines_do_not_count_as_rows(self, folder: Path) -> None:
        (folder / "train.jsonl").write_text("\n" + json.dumps(line("p", "t")) + "\n  \n")
        assert len(read(folder).train) == 1

    def test_a_missing_file(self, folder: Path) -> None:
        expected = f"{folder / 'gone.jsonl'}: no such file; check `source` in params.yaml"
        assert fails(folder, files={"test": "gone.jsonl"}) == expected

    def test_a_missing_text(self, folder: Path) -> None:
        (folder / "text.jsonl").unlink()
        assert fails(folder) == f"{folder / 'text.jsonl'}: no such file; check `source` in params.yaml"

    def test_broken_json(self, folder: Path) -> None:
        (folder / "train.jsonl").write_text(json.dumps(line("p", "t")) + '\n\n{"question": "p",}\n')
        assert fails(folder).startswith(f"{folder / 'train.jsonl'}: line 3: not JSON (")
        assert "column 18)" in fails(folder)

    def test_no_object(self, folder: Path) -> None:
        (folder / "train.jsonl").write_text("[1]\n")
        assert fails(folder) == f"{folder / 'train.jsonl'}: line 1: got a list; allowed: one JSON object a line"

    def test_not_utf8(self, folder: Path) -> None:
        (folder / "train.jsonl").write_bytes(json.dumps(line("p", "t")).encode() + b'\n{"question": "\xe9t\xe9"}\n')
        assert fails(folder) == (
            f"{folder / 'train.jsonl'}: line 2: not UTF-8 (invalid continuation byte); save the file as UTF-8"
        )

    def test_a_missing_column_with_the_nearest(self, folder: Path) -> None:
        assert fails(folder, columns={"prompt": "questoin"}) == (
            f"{folder / 'train.jsonl'}: line 1: no column 'questoin'; it has question, answer, who, rel; "
            "did you mean 'question'?"
        )

    def test_a_missing_column_of_a_later_row(self, folder: Path) -> None:
        write(folder / "train.jsonl", line("p", "t"), {"question": "q", "rel": "r", "who": "w"})
        assert "line 2: no column 'answer'; it has question, rel, who" in fails(folder)

    def test_a_missing_fact_column(self, folder: Path) -> None:
        assert "no column 'zzz'; it has question, answer, who, rel" in fails(folder, columns={"fact": ["zzz"]})
        assert "did you mean" not in fails(folder, columns={"fact": ["zzz"]})

    @pytest.mark.parametrize("content", ["", "\n \n"])
    def test_an_empty_file(self, folder: Path, content: str) -> None:
        (folder / "test.jsonl").write_text(content)
        assert fails(folder) == f"{folder / 'test.jsonl'}: the file is empty; it needs at least one row"


class TestReadEmbedded:
    @pytest.fixture
    def authored(self, tmp_path: Path) -> Path:
        (tmp_path / "facts.csv").write_text(
            "relation,subject,target,split\nr,a,1,known\nr,b,2,new\nr,c,3,new\nr,d,4,known\n"
        )
        templates = "".join(f"r,{i},{i} {{subject}} is\n" for i in range(4))
        (tmp_path / "wordings.csv").write_text("relation,wording,template\n" + templates)
        (tmp_path / "text.jsonl").write_text('{"text":"A","split":"train"}\n{"text":"B","split":"heldout"}\n')
        return tmp_path

    def test_who_sees_which_wording(self, authored: Path) -> None:
        found = read_embedded(authored, authored / "text.jsonl", 2, 1, 1)
        assert found.train["id"].tolist() == ["r:b:1", "r:b:2", "r:c:2", "r:c:3"]
        assert found.validation["id"].tolist() == ["r:b:3", "r:c:0"]
        assert found.test["id"].tolist() == ["r:b:0", "r:c:1"]
        assert found.known["id"].tolist() == ["r:a:0", "r:d:3"]
        assert found.texts.to_dict("list") == {"id": ["text:0"], "text": ["B"]}

    def test_more_wordings_than_there_are(self, authored: Path) -> None:
        with pytest.raises(UserError) as caught:
            read_embedded(authored, authored / "text.jsonl", 2, 1, 2)
        assert str(caught.value) == (
            "params.yaml: source.wordings: got 2 + 1 + 2; "
            "allowed: up to 4 in all, the wordings of the relation that has fewest"
        )


class TestPrepare:
    def test_the_tables(self) -> None:
        done = run(facts(3))
        assert done.train["id"].tolist() == ["train:0", "train:1", "train:2"]
        assert done.validation["id"].tolist() == ["validation:0", "validation:1", "validation:2"]
        assert done.test[["id", "kind"]].to_numpy().tolist() == [
            *([f"train:{i}", "reliability"] for i in range(3)),
            *([f"test:{i}", "generalisation"] for i in range(3)),
            *([f"known:{i}", "locality"] for i in range(3)),
        ]
        assert done.retention["text"].tolist() == ["Text 0.", "Text 1.", "Text 2."]
        assert (len(done.rejected), len(done.planted)) == (0, 0)
        assert done.summary == {
            "facts": 3, "train": 3, "validation": 3, "retention": 3, "rejected": 0, "not_drawn": 0, "planted": {},
            "test": {"generalisation": 3, "locality": 3, "reliability": 3},
        }  # fmt: skip

    def test_empty_targets_and_prompts_are_rejected_with_reason(self) -> None:
        train = table(row("a", "p", "t", fact="f"), row("b", "", "t", fact="f"), row("c", "q", "", fact="f"))
        known = table(row("k", "k?", "", fact="k"))
        done = run(raw(train, table(row("x", "x?", "t", fact="f")), known), max_rejected=0.9)
        assert done.rejected[["id", "reason"]].to_numpy().tolist() == [
            ["b", "train: the prompt is empty"],
            ["c", "train: the target is empty"],
            ["k", "known: the target is empty"],
        ]
        assert done.train["id"].tolist() == ["a"]
        assert done.summary["rejected"] == 3

    def test_too_many_rejects(self) -> None:
        rows = [row(f"bad{i}", f"p{i}", "", fact="f") for i in range(6)]
        source = raw(table(*rows, row("a", "p", "t", fact="f")), table(row("x", "x?", "t", fact="f")))
        assert refused(source, max_rejected=0.5) == (
            "prepare: 6 of 8 rows are rejected ({'train: the target is empty': 6}; "
            "first: bad0, bad1, bad2, bad3, bad4); allowed: a share of 0.5 (prepare.max_rejected)"
        )
        assert len(run(source, max_rejected=0.75).rejected) == 6

    def test_duplicate_ids(self) -> None:
        train = table(row("a", "p", "t"), row("a", "q", "t"), row("b", "r", "t"), row("b", "s", "t"))
        assert refused(raw(train, table(row("x", "x?", "t")))) == (
            "prepare: train: 2 ids are given twice, e.g. 'a'; ids must be unique"
        )

    @pytest.mark.parametrize("role", ["validation", "test", "known"])
    def test_a_row_both_trained_and_tested(self, role: str) -> None:
        tables = {"test": table(row("x", "x?", "t")), role: table(row("a", "y?", "t"))}
        message = refused(raw(table(row("a", "p", "t")), **tables))
        assert message == f"prepare: 1 rows are in both train and {role}, e.g. 'a'; remove them from one of the two"

    def test_an_id_of_a_test_row_among_the_known(self) -> None:
        source = raw(table(row("a", "p", "t")), table(row("x", "x?", "t")), table(row("x", "k?", "t")))
        assert refused(source) == (
            "prepare: test: not valid evaluation items\n  id: field_uniqueness fails 2 times (row 1: 'x', row 2: 'x')"
        )

    @pytest.mark.parametrize("role", ["validation", "test", "known"])
    def test_a_prompt_that_is_trained_too_is_rejected(self, role: str) -> None:
        tables = {"test": table(row("x", "x?", "t")), "validation": table(), "known": table()}
        tables[role] = pd.concat([tables[role], table(row("y", "p", "t"))], ignore_index=True)
        source = raw(table(row("a", "p", "t")), **tables)
        done = run(source, max_rejected=0.5)
        assert done.rejected[["id", "reason"]].to_numpy().tolist() == [["y", f"{role}: the prompt is trained too"]]
        assert done.test["id"].tolist() == ["a", "x"]
        assert len(done.validation) == 0
        assert refused(source) == (
            f"prepare: 1 of 3 rows are rejected ({{'{role}: the prompt is trained too': 1}}; first: y); "
            "allowed: a share of 0.0 (prepare.max_rejected)"
        )

    def test_no_fact_is_tested(self) -> None:
        source = raw(table(row("a", "p", "t", fact="f")), table(row("x", "x?", "t", fact="g")))
        expected = "prepare: no fact of the training rows is in the test rows; check the `fact` column mapping"
        assert refused(source) == expected

    def test_a_fact_tested_but_not_trained_is_not_lost_without_a_word(self) -> None:
        test = table(row("x", "x?", "t", fact="f"), row("y", "y?", "t", fact="never trained"))
        done = run(raw(table(row("a", "p", "t", fact="f")), test), max_rejected=0.5)
        assert done.rejected[["id", "reason"]].to_numpy().tolist() == [["y", "test: no training row has its fact"]]
        assert done.test["id"].tolist() == ["a", "x"]

    def test_a_blank_text_is_not_lost_without_a_word(self) -> None:
        source = raw(table(row("a", "p", "t")), table(row("x", "x?", "t")), texts=["One.", "  "])
        done = run(source, max_rejected=0.5)
        assert len(done.retention) + int(done.rejected["id"].eq("text:1").sum()) == 2

    def test_max_facts_keeps_the_same_facts_in_all_tables(self) -> None:
        done = run(facts(10), max_facts=4)
        kept = set(done.train["fact"])
        assert len(kept) == done.summary["facts"] == 4
        assert set(done.validation["fact"]) == kept
        assert set(done.test.loc[done.test["kind"] == "generalisation", "fact"]) == kept
        assert set(done.test.loc[done.test["kind"] == "reliability", "fact"]) == kept
        assert (done.test["kind"] == "locality").sum() == 10

    def test_more_facts_contain_fewer(self) -> None:
        few, more = (set(run(facts(10), max_facts=n).train["fact"]) for n in (3, 6))
        assert few < more

    def test_another_seed_keeps_other_facts(self) -> None:
        assert set(run(facts(20), max_facts=5).train["fact"]) != set(run(facts(20), max_facts=5, seed=1).train["fact"])

    def test_the_order_read_does_not_choose(self) -> None:
        source = facts(10)
        turned = Raw(*(getattr(source, f)[::-1] for f in ("train", "validation", "test", "known", "texts")))
        options = {"max_facts": 4, "max_known": 3, "max_texts": 2}
        one, two = run(source, **options), run(turned, **options)
        for name in ("train", "validation", "test", "retention"):
            assert set(getattr(one, name)["id"]) == set(getattr(two, name)["id"])

    def test_max_known_and_max_texts(self) -> None:
        done = run(facts(10), max_known=3, max_texts=2)
        assert (done.test["kind"] == "locality").sum() == 3
        assert len(done.retention) == 2

    def test_planted_damage_is_counted_and_apart(self) -> None:
        done = run(facts(20), damage={**NO_DAMAGE, "duplicates": 0.1, "empties": 0.05})
        assert done.summary["planted"] == {"duplicate": 2, "empty": 1}
        assert done.summary["train"] == len(done.train) == 22
        assert (done.test["kind"] == "reliability").sum() == 20
        assert (done.test["target"] != "").all()

    def test_no_training_row(self) -> None:
        assert "no fact of the training rows" in refused(raw(table(), table(row("x", "x?", "t"))))
