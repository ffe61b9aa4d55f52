from __future__ import annotations

import pytest

from knowtune.text.cells import Number, Unreadable, text_of, texts_of
from knowtune.text.json_cells import DECODER, DoubleKeyError, to_json


@pytest.mark.parametrize(
    ("written", "text"),
    [('"a"', "a"), ('" a\\n"', " a\n"), ("1.10", "1.10"), ("1960.0", "1960.0"), ("1e3", "1e3"), ("-0", "-0"),
     ("-0.0", "-0.0"), ("12345678901234567890123", "12345678901234567890123"),
     ("9" * 5000, "9" * 5000), ("1e999", "1e999"),
     ("0.30000000000000004", "0.30000000000000004"), ("true", "true"), ("false", "false"), ("null", ""), ("NaN", "")],
)  # fmt: skip
def test_what_json_writes_is_what_is_read(written: str, text: str) -> None:
    assert text_of(DECODER.decode(written)) == text


def test_infinity_in_json_is_refused_where_it_is_taken() -> None:
    with pytest.raises(ValueError, match=r"^got a number that is not finite; allowed"):
        text_of(DECODER.decode("[-Infinity]")[0])


@pytest.mark.parametrize("written", ['{"a": 1, "b": {"c": 1, "c": 2}}', '{"c": 1, "c": 1}'])
def test_a_key_given_twice(written: str) -> None:
    with pytest.raises(DoubleKeyError, match=r"^c$"):
        DECODER.decode(written)


def test_json_of_cells_reads_back_as_the_same_texts() -> None:
    record = {"a": Number("1.10"), "b": Number("1.5"), "c": Number("9" * 400), "d": [Number("1e3"), None, True, 7],
              "e": {"f": " é\n"}, "g": "\ud83d"}  # fmt: skip
    found = DECODER.decode(to_json(record))
    to_json(record).encode()
    assert [text_of(found[key]) for key in "abc"] == ["1.10", "1.5", "9" * 400]
    assert (texts_of(found["d"]), found["e"], found["g"]) == (["1e3", "true", "7"], {"f": " é\n"}, "\ud83d")
    assert isinstance(found["b"], Number)


def test_what_is_unreadable_is_an_object_in_json() -> None:
    assert to_json({"a": Unreadable("a duration")}) == '{"a": {"unreadable": "a duration"}}'
