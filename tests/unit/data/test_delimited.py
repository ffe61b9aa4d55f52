from __future__ import annotations

from pathlib import Path

import pytest

from knowtune.common.errors import UserError
from knowtune.data.delimited import SEPARATORS, separator_of
from knowtune.data.records import read_records


def rows(path: Path, separator: str | None = None) -> list[list[str]]:
    return [list(record.values()) for _, record in read_records(path, separator)]


def fails(path: Path, separator: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        rows(path, separator)
    return str(caught.value).removeprefix(f"{path}: ")


def write(folder: Path, text: str, name: str = "a.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8", newline="")
    return folder / name


class TestSeparator:
    @pytest.mark.parametrize("sign", SEPARATORS)
    @pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz"])
    def test_it_is_seen_from_the_head(self, tmp_path: Path, sign: str, name: str) -> None:
        text = f"q{sign}a{sign}b\n" + f'what, is it{sign}"x{sign}y"{sign}z\n'.replace(
            "what, is it", "what is it" if sign == "," else "what, is it"
        )
        if name.endswith(".gz"):
            import gzip

            (tmp_path / name).write_bytes(gzip.compress(text.encode()))
        else:
            write(tmp_path, text, name)
        assert separator_of(tmp_path / name) == sign
        assert rows(tmp_path / name)[0][1:] == [f"x{sign}y", "z"]

    def test_where_several_fit_the_first_rows_decide(self, tmp_path: Path) -> None:
        assert separator_of(write(tmp_path, "id;text, long;label\n1;a;b\n2;c, d, e;f\n")) == ";"
        assert separator_of(write(tmp_path, "question,answer;old\nwhat,is\nwho,was\n")) == ","

    def test_where_the_rows_leave_it_open_too(self, tmp_path: Path) -> None:
        path = write(tmp_path, "a,b;c\n1,2;3\n")
        expected = "the cells may be parted by commas or semicolons; say which: source.separator, e.g. ','"
        assert fails(path) == expected
        assert rows(path, ";") == [["1,2", "3"]]

    def test_one_column_of_text_has_none(self, tmp_path: Path) -> None:
        assert separator_of(write(tmp_path, "text\none\ntwo\n")) == ","
        assert fails(write(tmp_path, "text\none, two\n")) == "line 2: got 2 cells; allowed: 1, as the head has"

    def test_tabs_of_a_tsv_go_first(self, tmp_path: Path) -> None:
        assert rows(write(tmp_path, "a, b\tc\n1, 2\t3\n", "a.tsv")) == [["1, 2", "3"]]


class TestQuotes:
    @pytest.mark.parametrize("sign", SEPARATORS)
    def test_quoted_cells(self, tmp_path: Path, sign: str) -> None:
        path = write(tmp_path, f'q{sign}a\n"say ""x""{sign} y"{sign}"two\nlines"\nplain{sign}NA\n')
        assert rows(path) == [[f'say "x"{sign} y', "two\nlines"], ["plain", "NA"]]

    @pytest.mark.parametrize("sign", ["\t", "|", ","])
    def test_quotes_that_are_plain_characters(self, tmp_path: Path, sign: str) -> None:
        lines = ['0@"plain" line', '1@He said "yes to all', '0@"Hello there', '1@"whole"', '0@"w ""x"""', '1@6" nail']
        path = write(tmp_path, "\n".join(["label@text", *lines, ""]).replace("@", sign))
        assert [row[1] for row in rows(path)] == [
            '"plain" line', 'He said "yes to all', '"Hello there', "whole", 'w "x"', '6" nail'
        ]  # fmt: skip

    def test_rows_of_tabs_are_never_merged(self, tmp_path: Path) -> None:
        path = write(tmp_path, '0\t1\na\t"b\nc\td\ne\tf"\n', "a.tsv")
        assert rows(path) == [["a", '"b'], ["c", "d"], ["e", 'f"']]

    def test_where_lines_may_be_rows_or_a_row_it_is_refused(self, tmp_path: Path) -> None:
        message = fails(write(tmp_path, 'q,a\nx,y\nz,"He said\nu,v\nw,She said"\n'))
        assert message.startswith(
            "line 3: a quote begins here and ends on a later line; it is open whether these lines are"
        )
        assert "quoting=3" in message

    def test_doubtful_rows_of_several_lines_are_said(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = write(tmp_path, 'q,a\n"one, two",y\nz,"He said\nw,She said"\n')
        assert rows(path) == [["one, two", "y"], ["z", "He said\nw,She said"]]
        said = "1 rows go over several lines that look like rows of their own, the first ends at line 4"
        assert said in capsys.readouterr().err

    def test_texts_of_several_lines_are_no_doubt(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert rows(write(tmp_path, 'q,a\nx,"one\n\ntwo"\n')) == [["x", "one\n\ntwo"]]
        assert capsys.readouterr().err == ""
