from __future__ import annotations

from typing import Any, ClassVar

import pytest

from knowtune.text.cell_paths import MissingColumnError, take, written_list
from knowtune.text.cells import preview, texts_of


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
    assert str(caught.value) == f"got {preview(text.strip())}; allowed: a list as JSON or Python writes it"
