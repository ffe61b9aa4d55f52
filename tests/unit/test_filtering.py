from __future__ import annotations

import pandas as pd
import pytest

from knowtune.contract import ROW_COLUMNS
from knowtune.errors import UserError
from knowtune.families import Filter, Seen
from knowtune.filtering import run_filters
from knowtune.filters.clean import Clean
from knowtune.filters.everything import Everything

from .helpers import row, seen_of, table


class DropTargets(Filter):
    """Drop the rows of some targets; note what was seen."""

    targets: list[str]

    def reasons(self, rows: pd.DataFrame, seen: Seen) -> pd.Series:  # type: ignore[type-arg]
        assert seen.answers["id"].tolist() == rows["id"].tolist()
        return pd.Series(["gone: by name" if t in self.targets else "" for t in rows["target"]], index=rows.index)


def three() -> pd.DataFrame:
    return table(row("a", "p", "x"), row("b", "q", "y"), row("c", "r", "z"))


def test_everything_stays() -> None:
    kept, dropped = run_filters(three(), seen_of(three()), [("everything", Everything())], "filter f")
    pd.testing.assert_frame_equal(kept, three().assign(distance=1.0))
    assert len(dropped) == 0
    assert dropped.columns.tolist() == [*ROW_COLUMNS, "distance", "strategy", "reason"]


def test_each_filter_sees_what_the_one_before_kept() -> None:
    chain = [("late", DropTargets(targets=["z"])), ("early", DropTargets(targets=["x", "z"]))]
    kept, dropped = run_filters(three(), seen_of(three()), chain, "filter f")
    assert kept["id"].tolist() == ["b"]
    assert kept.index.tolist() == [0]
    assert dropped[["id", "strategy", "reason"]].to_numpy().tolist() == [
        ["a", "early", "gone: by name"],
        ["c", "late", "gone: by name"],
    ]


def test_nothing_is_lost() -> None:
    rows = table(*(row(str(i), f"p{i % 7}", f"t{i % 7 % 5 if i < 40 else 9}") for i in range(50)))
    kept, dropped = run_filters(rows, seen_of(rows), [("clean", Clean(majority=0.6))], "f")
    assert sorted([*kept["id"], *dropped["id"]]) == sorted(rows["id"])
    assert (len(kept), len(dropped)) == (7, 43)


def test_answers_of_other_rows_are_refused() -> None:
    rows = three()
    with pytest.raises(UserError) as caught:
        run_filters(rows, seen_of(rows[::-1].reset_index(drop=True)), [("everything", Everything())], "filter f")
    assert str(caught.value) == "filter f: the answers are not those of the training rows; run the answers stage again"


def test_a_filter_that_drops_all_is_refused_with_the_counts() -> None:
    rows = table(row("a", "p", ""), row("b", "p", "x"), row("c", "p", "y"))
    with pytest.raises(UserError) as caught:
        run_filters(rows, seen_of(rows), [("clean", Clean())], "filter f")
    assert str(caught.value) == (
        "filter f: the filter drops all 3 rows ({'contradiction': 2, 'empty': 1}); loosen its strategy"
    )
