from __future__ import annotations

import pandas as pd

from knowtune.data.draw import among, draw, draw_rows, random_keys, where

NAMES = pd.Series([f"name {i}" for i in range(50)], dtype="str")
# Golden: drawn rows, and so every number of a leaderboard, follow from these.
EXPECTED = [7_868_126_298_163_874_628, 2_111_763_744_837_808_189, 5_349_202_820_666_251_562]


def test_random_keys_are_these() -> None:
    assert random_keys(NAMES[:2], 0).tolist() == EXPECTED[:2]
    assert random_keys(NAMES[:1], 1).tolist() == EXPECTED[2:]


def test_more_contain_fewer_and_the_order_does_not_choose() -> None:
    few, more = set(draw(NAMES, 5, 0)), set(draw(NAMES, 20, 0))
    assert (len(few), len(more), few < more) == (5, 20, True)
    assert set(draw(NAMES[::-1], 5, 0)) == few
    assert set(draw(NAMES, 5, 1)) != few


def test_none_and_too_many_are_all() -> None:
    assert draw(NAMES, None, 0) is NAMES
    assert draw(NAMES, 50, 0) is NAMES


def test_rows_keep_their_order() -> None:
    rows = pd.DataFrame({"id": NAMES})
    drawn = draw_rows(rows, 10, 0)
    assert (len(drawn), drawn.index.is_monotonic_increasing) == (10, True)
    assert draw_rows(rows, None, 0) is rows


def test_where_copies_nothing_that_is_all_wanted() -> None:
    rows = pd.DataFrame({"id": NAMES})
    assert where(rows, among(rows["id"], NAMES)) is rows
    assert where(rows, among(rows["id"], NAMES[:3]))["id"].tolist() == NAMES[:3].tolist()
