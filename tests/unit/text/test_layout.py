from __future__ import annotations

import pytest

from knowtune.text.layout import PLAIN, Layout


def test_a_plain_row_has_no_layout() -> None:
    assert PLAIN.to_text() == ""
    assert Layout.read("") is PLAIN


@pytest.mark.parametrize(
    "layout",
    [
        Layout(ending="<|im_end|>\n"),
        Layout(ending=" é</s>", markup=((0, 3), (5, 9)), answer=((0, 1),), turns=((4, 5),), start=False),
    ],
)
def test_what_is_written_is_read(layout: Layout) -> None:
    assert Layout.read(layout.to_text()) == layout


def test_it_is_canonical_json_of_what_is_there() -> None:
    assert Layout(start=False, markup=((0, 2),)).to_text() == '{"markup":[[0,2]],"start":false}'


def test_where_control_tokens_are_meant() -> None:
    layout = Layout(ending="</s>", markup=((0, 3), (5, 9)), answer=((1, 2),))
    assert layout.control_ranges(9, 4) == ((0, 3), (5, 9), (10, 11), (13, 17))
    assert layout.control_ranges(8, 0) == ((0, 3), (5, 8), (8, 12)), "of a prompt cut at its end, and of no target"
    assert layout.of_prompt().control_ranges(9, 0) == ((0, 3), (5, 9))
    assert PLAIN.control_ranges(9, 4) == ()
