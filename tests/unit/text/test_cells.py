from __future__ import annotations

import copy
import datetime
import decimal
import json
import pickle
import uuid
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

from knowtune.text.cells import (
    DECODER,
    DoubleKeyError,
    MissingColumnError,
    Number,
    Unreadable,
    fault_of,
    key_of,
    plain,
    shown,
    storable,
    take,
    text_of,
    texts_of,
    to_json,
    written_list,
)

UTC = datetime.UTC


@pytest.mark.parametrize(
    ("written", "text"),
    [('"a"', "a"), ('" a\\n"', " a\n"), ("1.10", "1.10"), ("1960.0", "1960.0"), ("1e3", "1e3"), ("-0", "-0"),
     ("-0.0", "-0.0"), ("12345678901234567890123", "12345678901234567890123"),
     ("9" * 5000, "9" * 5000), ("1e999", "1e999"),
     ("0.30000000000000004", "0.30000000000000004"), ("true", "true"), ("false", "false"), ("null", ""), ("NaN", "")],
)  # fmt: skip
def test_what_json_writes_is_what_is_read(written: str, text: str) -> None:
    assert text_of(DECODER.decode(written)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (float("nan"), ""), (pd.NaT, ""), (decimal.Decimal("NaN"), ""), (np.float64("nan"), ""),
     ("b'x'", "b'x'"),
     (b"caf\xc3\xa9", "café"), (bytearray(b"x"), "x"), (memoryview(b"x"), "x"), (True, "true"),
     (np.bool_(False), "false"),
     (7, "7"), (np.int64(7), "7"), (0.1, "0.1"), (1960.0, "1960.0"), (decimal.Decimal("1.10"), "1.10"),
     (decimal.Decimal("1E+3"), "1000"), (decimal.Decimal("0E-10"), "0.0000000000"),
     (datetime.date(1969, 7, 20), "1969-07-20"), (datetime.time(20, 17), "20:17:00"),
     (datetime.datetime(1969, 7, 20, 20, 17), "1969-07-20T20:17:00"),
     (datetime.datetime(1969, 7, 20, 20, 17, tzinfo=UTC), "1969-07-20T20:17:00+00:00"),
     (pd.Timestamp("1969-07-20 20:17:00.000000001"), "1969-07-20T20:17:00.000000001"),
     (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001")],
)  # fmt: skip
def test_values_of_python_become_the_text_that_reads_back(value: Any, text: str) -> None:
    assert text_of(plain(value)) == text


@pytest.mark.parametrize(
    ("value", "what"),
    [(b"\xff", "bytes that are no UTF-8 text"), (datetime.timedelta(1), "a duration"),
     (object(), "a value of type object"),
     (float("inf"), "a number that is not finite"), (decimal.Decimal("-Infinity"), "a number that is not finite"),
     ({1, 2}, "a value of type set")],
)  # fmt: skip
def test_what_is_no_text_is_refused_where_it_is_taken(value: Any, what: str) -> None:
    for cell in (plain(value), json.loads(to_json({"a": plain(value)}))["a"]):
        with pytest.raises(ValueError, match=f"^got {what}; allowed: text or a number$"):
            text_of(cell)
        with pytest.raises(ValueError, match=f"^got {what}; allowed: text or a number$"):
            texts_of(["good", cell])


def test_infinity_in_json_is_refused_where_it_is_taken() -> None:
    with pytest.raises(ValueError, match=r"^got a number that is not finite; allowed"):
        text_of(DECODER.decode("[-Infinity]")[0])


@pytest.mark.parametrize("cell", [[], ["a"], {}, {"a": "b"}])
def test_nested_cells_are_no_text(cell: Any) -> None:
    with pytest.raises(ValueError, match=f"^got a {type(cell).__name__}; allowed: text or a number$"):
        text_of(cell)


def test_nested_values_keep_their_shape() -> None:
    found = plain({"text": ("a", np.array([1.5, 2])), 3: [b"x", None]})
    assert found == {"text": ["a", [1.5, 2.0]], "3": ["x", None]}
    assert str(found["text"][1][0]) == "1.5"


def test_keys_have_no_blanks_around_them() -> None:
    assert (key_of(" x\n"), key_of(7), key_of(None)) == ("x", "7", "")


@pytest.mark.parametrize(
    ("cell", "texts"),
    [("a", ["a"]), (None, []), (" ", []), (["a", " b", None, "a", ""], ["a", " b"]),
     ([1, True, Number("1.0")], ["1", "true", "1.0"])],
)  # fmt: skip
def test_texts(cell: Any, texts: list[str]) -> None:
    assert texts_of(cell) == texts


@pytest.mark.parametrize(("cell", "got"), [({"a": 1}, "dict"), ([["a"]], "list"), (["a", {"b": 1}], "dict")])
def test_what_is_no_list_of_texts(cell: Any, got: str) -> None:
    with pytest.raises(ValueError, match=f"^got a {got}; allowed: a text, or a list of texts$"):
        texts_of(cell)


def test_a_number_is_a_number() -> None:
    number = Number("1.10")
    assert (number + 1, f"{number}", repr(number), number == 1.1) == (2.1, "1.10", "1.10", True)
    assert [str(copy.deepcopy(number)), str(pickle.loads(pickle.dumps(number)))] == ["1.10", "1.10"]


@pytest.mark.parametrize("written", ['{"a": 1, "b": {"c": 1, "c": 2}}', '{"c": 1, "c": 1}'])
def test_a_key_given_twice(written: str) -> None:
    with pytest.raises(DoubleKeyError, match=r"^c$"):
        DECODER.decode(written)


class TestTake:
    RECORD: ClassVar[dict[str, Any]] = {
        "a": 1, "a.b": 2, "list": '["x", "y"]', "odd[]": "kept", "deep": {"b": {"c": 3}, "texts": ["s", "t"]},
        "parts": [{"text": "s"}, {"text": "t"}, None], "none": None, "inner": {"list": "['x']"},
    }  # fmt: skip

    @pytest.mark.parametrize(
        ("name", "cell"),
        [("a", 1), ("a.b", 2), ("list", '["x", "y"]'), ("list[]", ["x", "y"]), ("odd[]", "kept"), ("deep.b.c", 3),
         ("deep.texts", ["s", "t"]), ("parts.text", ["s", "t"]), ("none.text", None), ("none[]", None), ("a[]", 1),
         ("inner.list[]", ["x"])],
    )  # fmt: skip
    def test_by_path(self, name: str, cell: Any) -> None:
        assert take(self.RECORD, name) == cell

    @pytest.mark.parametrize("name", ["b", "deep.x", "a.x", "list.x", "b[]", "parts.x", "b.c", "list[].x", ""])
    def test_what_is_not_there(self, name: str) -> None:
        with pytest.raises(MissingColumnError) as caught:
            take(self.RECORD, name)
        assert str(caught.value) == name.removesuffix("[]")


@pytest.mark.parametrize(
    ("text", "found"),
    [('["a", "b"]', ["a", "b"]), ("['a', \"b's\"]", ["a", "b's"]), ("[]", []), (' ["a"]\n', ["a"]),
     ("[1.10, 2]", [1.1, 2]),
     ("[None, 'a', True]", [None, "a", True]), ("plain", "plain"), (7, 7), (["a"], ["a"]), (None, None), ("", "")],
)  # fmt: skip
def test_a_written_list(text: Any, found: Any) -> None:
    assert written_list(text) == found


def test_numbers_of_a_written_list_stay_as_written() -> None:
    assert texts_of(written_list("[1.10, 007]".replace("007", "7"))) == ["1.10", "7"]


@pytest.mark.parametrize(
    "text", ["[1] see note", "['a' 'b']", "['a'\n 'b']", "[a, b]", '["a"', "[" * 9000, "[x for x in 'ab']"]
)
def test_what_begins_like_a_list_and_is_none(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        written_list(text)
    assert str(caught.value) == f"got {shown(text.strip())}; allowed: a list as JSON or Python writes it"


@pytest.mark.parametrize(
    ("text", "fault"),
    [("", ""), ("é\n\u200b😀", ""), ("a\0", "it has a NUL character"), ("é\0", "it has a NUL character"),
     ("a \ud83d", "it has half of a character (the lone surrogate \\ud83d)")],
)  # fmt: skip
def test_faults_of_a_text(text: str, fault: str) -> None:
    assert fault_of(text) == fault
    storable(text).encode()


def test_storable_shows_lone_surrogates() -> None:
    assert storable("é \ud83d") == "é \\ud83d"


def test_json_of_cells_reads_back_as_the_same_texts() -> None:
    record = {"a": Number("1.10"), "b": Number("1.5"), "c": Number("9" * 400), "d": [Number("1e3"), None, True, 7],
              "e": {"f": " é\n"}, "g": "\ud83d"}  # fmt: skip
    found = DECODER.decode(to_json(record))
    to_json(record).encode()
    assert [text_of(found[key]) for key in "abc"] == ["1.10", "1.5", "9" * 400]
    assert (texts_of(found["d"]), found["e"], found["g"]) == (["1e3", "true", "7"], {"f": " é\n"}, "\ud83d")
    assert isinstance(found["b"], Number)


def test_shown_is_short() -> None:
    assert (shown("a"), shown(7), len(shown("x" * 1000))) == ("'a'", "7", 60)


def test_what_is_unreadable_is_an_object_in_json() -> None:
    assert to_json({"a": Unreadable("a duration")}) == '{"a": {"unreadable": "a duration"}}'
