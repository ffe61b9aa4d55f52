from __future__ import annotations

import copy
import datetime
import decimal
import json
import pickle
import uuid
from typing import Any

import numpy as np
import pandas as pd
import pytest

from knowtune.text.cells import Number, fault_of, key_of, plain, preview, storable, text_of, texts_of
from knowtune.text.json_cells import to_json

UTC = datetime.UTC


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


def test_a_preview_is_short() -> None:
    assert (preview("a"), preview(7), len(preview("x" * 1000))) == ("'a'", "7", 60)
