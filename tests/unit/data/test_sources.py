from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from knowtune.common.errors import UserError
from knowtune.data import sources
from knowtune.data.column_mapping import EMPTY, reader_for
from knowtune.data.contract import ROLES, ROW_COLUMNS
from knowtune.data.raw import READ_COLUMNS, Raw, Reading
from knowtune.data.sources import read_embedded, read_files
from tests.unit.helpers import REVIEWS, TASK

COLUMNS: dict[str, Any] = {
    "id": None,
    "fact": ["rel", "who"],
    "relation": "rel",
    "subject": "who",
    "template": None,
    "prompt": "question",
    "target": "answer",
}
LABELS: dict[str, Any] = {"id": None, "text": "text", "text_pair": None, "label": "label"}
FILES: dict[str, Any] = {"train": "train.jsonl", "validation": None, "test": "test.jsonl", "known": None}


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


def read(
    folder: Path,
    files: dict[str, Any] | None = None,
    columns: dict[str, Any] | None = None,
    task: Any = TASK,
    text: str = "text.jsonl",
    text_column: str = "text",
) -> Raw:
    given = {**(LABELS if task is REVIEWS else COLUMNS), **(columns or {})}
    reader = reader_for(given, task, None)  # type: ignore[arg-type]
    return read_files(folder, {**FILES, **(files or {})}, reader, given, folder / text, text_column)


def fails(folder: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(folder, **options)
    return str(caught.value)


class TestReadFiles:
    def test_columns_are_mapped(self, folder: Path) -> None:
        found = read(folder)
        assert found.train.columns.tolist() == READ_COLUMNS
        first = found.train.iloc[0].to_dict()
        assert {k: v for k, v in first.items() if k != "id"} == {
            "fact": "town:Ada", "relation": "town", "subject": "Ada", "template": "", "prompt": "Ada lives in ",
            "text_pair": "", "target": "Rome", "aliases": "", "layout": "", "old": "", "reason": "",
        }  # fmt: skip
        assert found.texts.to_dict("list") == {"id": ["text:0", "text:1"], "text": ["One.", "Two."], "reason": ["", ""]}
        assert (len(found.validation), found.known.columns.tolist()) == (0, READ_COLUMNS)
        assert found.by_fact

    def test_several_files_are_read_one_after_the_other_whatever_their_kind(self, folder: Path) -> None:
        (folder / "more.csv").write_text("question,answer,who,rel\nCleo lives in,Bern,Cleo,town\n")
        pyarrow.parquet.write_table(pa.Table.from_pylist([line("Dan lives in", "Lima", "Dan")]), folder / "m.parquet")
        found = read(folder, files={"train": ["train.jsonl", "more.csv", "m.parquet"]})
        assert found.train["subject"].tolist() == ["Ada", "Bob", "Cleo", "Dan"]
        assert found.train.index.is_unique

    def test_a_row_given_in_two_files_has_two_ids(self, folder: Path) -> None:
        write(folder / "more.jsonl", line("Ada lives in", "Rome"))
        found = read(folder, files={"train": ["train.jsonl", "more.jsonl"]})
        assert found.train["id"].is_unique

    def test_without_a_fact_column_every_row_is_a_fact_of_its_own(self, folder: Path) -> None:
        found = read(folder, columns={"fact": None, "relation": None, "subject": None})
        assert found.train["fact"].tolist() == found.train["id"].tolist()
        assert found.train["relation"].tolist() == ["", ""]
        assert not found.by_fact

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
        assert before["Ada lives in "] != before["Bob lives in "]
        assert all(len(i) == 18 and i.endswith(":0") for i in before)

    def test_equal_rows_get_the_number_of_their_occurrence(self, folder: Path) -> None:
        write(folder / "train.jsonl", *[line("Ada lives in", "Rome")] * 3)
        ids = read(folder).train["id"].tolist()
        assert [i[-2:] for i in ids] == [":0", ":1", ":2"]
        assert len({i[:-2] for i in ids}) == 1

    def test_a_file_of_several_chunks(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = read(folder, files={"train": ["train.jsonl", "test.jsonl"]}).train
        monkeypatch.setattr(sources, "CHUNK", 1)
        assert read(folder, files={"train": ["train.jsonl", "test.jsonl"]}).train.equals(whole)

    @pytest.mark.parametrize("id_column", ["key", None])
    def test_a_record_gives_rows_of_several_roles(
        self, folder: Path, id_column: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def reader(record: dict[str, Any]) -> list[Reading]:
            cells = {**EMPTY, "fact": str(record["key"])}
            return [
                Reading({**cells, "prompt": record["a"]}),
                Reading({**cells, "prompt": record["b"]}, role="test", part="other:0"),
                Reading({**cells, "prompt": record["b"]}, "why not", role="known", part="near:0"),
            ]

        write(folder / "train.jsonl", *[{"key": i, "a": f"a{i}", "b": f"b{i}"} for i in range(3)])
        write(folder / "more.jsonl", {"key": 9, "a": "a9", "b": "b9"})
        monkeypatch.setattr(sources, "CHUNK", 2)
        files = {"train": "train.jsonl", "validation": "more.jsonl"}
        found = read_files(folder, files, reader, {"id": id_column, "fact": "key"}, folder / "text.jsonl", "text")
        prompts = {role: getattr(found, role)["prompt"].tolist() for role in ROLES}
        assert prompts == {
            "train": ["a0", "a1", "a2"], "validation": ["a9"], "test": ["b0", "b1", "b2", "b9"],
            "known": ["b0", "b1", "b2", "b9"], "replay": [],
        }  # fmt: skip
        assert found.known["reason"].tolist() == ["why not"] * 4
        assert found.test["fact"].tolist() == ["0", "1", "2", "9"]
        if id_column:
            assert found.validation["id"].tolist() == ["9"]
            assert found.test["id"].tolist() == ["0:other:0", "1:other:0", "2:other:0", "9:other:0"]
        else:
            assert all(found.test["id"].str.endswith(":0"))

    @pytest.mark.parametrize(
        ("value", "text"), [(None, ""), (" x ", " x "), (3, "3"), (1.5, "1.5"), (float("nan"), "")]
    )
    def test_cells_are_text(self, folder: Path, value: Any, text: str) -> None:
        write(folder / "train.jsonl", line("Ada lives in", value))
        assert read(folder).train["target"].tolist() == [text]

    def test_further_right_answers(self, folder: Path) -> None:
        write(folder / "train.jsonl", line("Ada lives in", ["Rome", "Roma"]), line("Bob lives in", ["a", "b\nc"]))
        found = read(folder).train
        assert found[["target", "aliases", "reason"]].to_numpy().tolist() == [
            ["Rome", "Roma", ""],
            ["a", "b\nc", "a further right answer has a line break"],
        ]

    def test_labels(self, folder: Path) -> None:
        write(folder / "train.jsonl", {"text": "fun", "label": 1}, {"text": "dull", "label": "bad"})
        write(folder / "test.jsonl", {"text": "fine", "label": "1"})
        found = read(folder, task=REVIEWS)
        assert found.train[["prompt", "target"]].to_numpy().tolist() == [["fun", "good"], ["dull", "bad"]]
        assert found.test["target"].tolist() == ["good"]
        assert not found.by_fact

    def test_a_label_out_of_range_stops_with_its_line(self, folder: Path) -> None:
        write(folder / "train.jsonl", {"text": "fun", "label": 1}, {"text": "dull", "label": 2})
        assert fails(folder, task=REVIEWS) == (
            f"{folder / 'train.jsonl'}: line 2: label: got 2; allowed: 0 or 'bad', 1 or 'good' (task.labels)"
        )

    def test_a_cell_that_is_no_text_stops_with_its_line(self, folder: Path) -> None:
        write(folder / "train.jsonl", line("x", "y"), line(["x"], "y"))
        expected = f"{folder / 'train.jsonl'}: line 2: question: got a list; allowed: text or a number"
        assert fails(folder) == expected

    def test_a_missing_file(self, folder: Path) -> None:
        expected = f"{folder / 'gone.jsonl'}: no such file; check `source` in params.yaml"
        assert fails(folder, files={"test": "gone.jsonl"}) == expected

    def test_a_missing_text(self, folder: Path) -> None:
        (folder / "text.jsonl").unlink()
        assert fails(folder) == f"{folder / 'text.jsonl'}: no such file; check `source` in params.yaml"

    def test_a_text_column_that_is_not_there(self, folder: Path) -> None:
        assert fails(folder, text_column="txt") == (
            f"{folder / 'text.jsonl'}: line 1: no column 'txt'; it has text; did you mean 'text'?"
        )

    def test_a_text_in_another_kind_of_file(self, folder: Path) -> None:
        (folder / "text.csv").write_text("body\n One. \n")
        assert read(folder, text="text.csv", text_column="body").texts["text"].tolist() == [" One. "]

    def test_a_missing_column_with_the_nearest(self, folder: Path) -> None:
        assert fails(folder, columns={"prompt": "questoin"}) == (
            f"{folder / 'train.jsonl'}: line 1: no column 'questoin'; it has question, answer, who, rel; "
            "did you mean 'question'?"
        )

    def test_a_missing_column_of_a_later_row(self, folder: Path) -> None:
        write(folder / "train.jsonl", line("p", "t"), {"question": "q", "rel": "r", "who": "w"})
        assert "line 2: no column 'answer'; it has question, rel, who" in fails(folder)

    @pytest.mark.parametrize("columns", [{"fact": ["zzz"]}, {"id": "zzz"}, {"prompt": "{zzz} "}])
    def test_a_column_that_is_like_none(self, folder: Path, columns: dict[str, Any]) -> None:
        message = fails(folder, columns=columns)
        assert message.endswith("line 1: no column 'zzz'; it has question, answer, who, rel")


class TestCellsOfFiles:
    @pytest.mark.parametrize("odd", ["a \ud83d", "a\0b"])
    def test_a_text_that_cannot_be_kept_rejects_its_row(self, folder: Path, odd: str) -> None:
        rows = [line("Ada lives in", odd), line(odd, "Rome"), line("Bob lives in", "Oslo", "Bob")]
        (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "text.jsonl").write_text(json.dumps({"text": "One."}) + "\n" + json.dumps({"text": odd}) + "\n")
        found = read(folder)
        fault = "it has a NUL character" if "\0" in odd else "it has half of a character (the lone surrogate \\ud83d)"
        assert found.train["reason"].tolist() == [f"target: {fault}", f"prompt: {fault}", ""]
        assert found.texts["reason"].tolist() == ["", fault]
        found.train.to_json(folder / "out.json")  # it can be written

    @pytest.mark.parametrize("value", ['["Rome", "Roma"]', "['Rome', 'Roma']"])
    def test_lists_written_as_text_are_refused_until_it_is_said_what_they_are(self, folder: Path, value: str) -> None:
        write(folder / "train.jsonl", line("Ada lives in", value), line("Bob lives in", value, "Bob"))
        message = fails(folder, columns={"relation": None}, files={"test": None})
        assert message.startswith(
            f"{folder / 'train.jsonl'}: 2 of 2 cells of 'answer' are lists written as text, e.g. "
        )
        assert message.endswith('`target: "{answer}"` learns the texts as they stand')
        listed = read(folder, columns={"target": "answer[]"}, files={"test": None}).train
        assert (listed["target"][0], listed["aliases"][0]) == ("Rome", "Roma")
        plain = read(folder, columns={"target": "{answer}"}, files={"test": None}).train
        assert (plain["target"][0], plain["aliases"][0]) == (value, "")

    def test_a_text_or_a_list_of_them(self, folder: Path) -> None:
        write(folder / "train.jsonl", line("Ada lives in", "Rome"), line("Bob lives in", ["Oslo", "Bergen"], "Bob"))
        assert read(folder).train[["target", "aliases"]].to_numpy().tolist() == [["Rome", ""], ["Oslo", "Bergen"]]

    def test_a_column_inside_a_column(self, folder: Path) -> None:
        write(folder / "train.jsonl", line("Ada lives in", {"text": ["Rome", "Roma"], "answer_start": [1, 2]}))
        found = read(folder, columns={"target": "answer.text", "prompt": "{question} "}, files={"test": None})
        assert found.train[["prompt", "target", "aliases"]].to_numpy().tolist() == [["Ada lives in ", "Rome", "Roma"]]
        assert "line 1: no column 'answer.txt'" in fails(folder, columns={"target": "answer.txt"})

    def test_what_parts_the_cells_is_said_once_and_can_be_given(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (folder / "train.csv").write_text("question;answer;who;rel\nAda, who lives in;Rome;Ada;town\n")
        found = read(folder, files={"train": "train.csv"})
        assert found.train["prompt"].tolist() == ["Ada, who lives in "]
        said = f"{folder / 'train.csv'}: cells are parted by semicolons; if not, say by what: source.separator\n"
        assert capsys.readouterr().out == said
        reader = reader_for(COLUMNS, TASK, None)  # type: ignore[arg-type]
        with pytest.raises(UserError, match="line 2: got 2 cells; allowed: 1, as the head has"):
            read_files(folder, {"train": "train.csv"}, reader, COLUMNS, folder / "text.jsonl", "text", ",")
        assert capsys.readouterr().out == ""

    def test_an_empty_id(self, folder: Path) -> None:
        write(folder / "train.jsonl", line("Ada lives in", "Rome", key="a"), line("Bob lives in", "Oslo", key=" "))
        expected = f"{folder / 'train.jsonl'}: line 2: key: the id is empty; give every row one, or `id: null`"
        assert fails(folder, columns={"id": "key"}) == expected

    @pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
    def test_one_table_in_three_formats_is_one_table(self, folder: Path, name: str) -> None:
        table = pd.DataFrame(
            {"question": [" Ada\nlives in", "é"], "answer": ["01", " NA "], "who": "Ada", "rel": "town"}
        )
        if name == "a.parquet":
            table.to_parquet(folder / name)
        elif name == "a.csv":
            table.to_csv(folder / name, index=False)
        else:
            table.to_json(folder / name, orient="records", lines=True)
        found = read(folder, files={"train": name}).train
        assert found[["prompt", "target"]].to_numpy().tolist() == [[" Ada\nlives in ", "01"], ["é", " NA "]]


class TestReadEmbedded:
    @pytest.fixture
    def authored(self, tmp_path: Path) -> Path:
        (tmp_path / "facts.csv").write_text(
            "relation,subject,target,split\nr,a,1,known\nr,b,2,new\nr,c,3,new\nr,d,4,known\n"
        )
        templates = "".join(f"r,{i},{i} {{subject}} is\n" for i in range(4))
        (tmp_path / "templates.csv").write_text("relation,number,template\n" + templates)
        (tmp_path / "text.jsonl").write_text('{"text":"A","split":"train"}\n{"text":"B","split":"heldout"}\n')
        return tmp_path

    def test_who_sees_which_template(self, authored: Path) -> None:
        found = read_embedded(authored, authored / "text.jsonl", 2, 1, 1)
        assert found.train["id"].tolist() == ["r:b:1", "r:b:2", "r:c:2", "r:c:3"]
        assert found.validation["id"].tolist() == ["r:b:3", "r:c:0"]
        assert found.test["id"].tolist() == ["r:b:0", "r:c:1"]
        assert found.known["id"].tolist() == ["r:a:0", "r:d:3"]
        assert found.texts.to_dict("list") == {"id": ["text:0"], "text": ["B"], "reason": [""]}
        assert found.spare_texts is not None
        assert found.spare_texts.to_dict("list") == {"id": ["replay:0"], "text": ["A"], "reason": [""]}
        assert found.replay.empty
        assert found.replay_texts.empty
        assert found.by_fact
        assert found.train.columns.tolist() == [*ROW_COLUMNS, "reason"]
        assert found.train["prompt"].iloc[0] == "1 b is "

    def test_more_templates_than_there_are(self, authored: Path) -> None:
        with pytest.raises(UserError) as caught:
            read_embedded(authored, authored / "text.jsonl", 2, 1, 2)
        assert str(caught.value) == (
            "params.yaml: source.templates: got 2 + 1 + 2; "
            "allowed: up to 4 in all, the templates of the relation that has fewest"
        )
