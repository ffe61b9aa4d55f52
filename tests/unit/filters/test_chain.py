from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from knowtune.common.errors import UserError
from knowtune.data.contract import ROW_COLUMNS
from knowtune.filters.base import Filter, Seen
from knowtune.filters.chain import Limits, decide, run_filters, split
from knowtune.filters.clean import Clean
from knowtune.filters.everything import Everything
from knowtune.filters.interference import Interference
from knowtune.filters.mean_variance import MeanVariance
from knowtune.filters.nearest import Nearest
from tests.unit.helpers import row, seen_of, table


class DropTargets(Filter):
    """Drop the rows of some targets; note what was seen."""

    targets: list[str]

    def reasons(self, rows: pd.DataFrame, seen: Seen) -> pd.Series:  # type: ignore[type-arg]
        assert seen.sketches is not None
        assert sum(map(len, seen.sketch_slices(2))) == len(rows)
        assert seen.answers["id"].tolist() == rows["id"].tolist()
        return pd.Series(["gone: by name" if t in self.targets else "" for t in rows["target"]], index=rows.index)


def three() -> pd.DataFrame:
    return table(row("a", "p", "x"), row("b", "q", "y"), row("c", "r", "z"))


def test_everything_stays() -> None:
    kept, dropped = run_filters(three(), seen_of(three(), [1, 0, 2]), [("everything", Everything())], "filter f")
    pd.testing.assert_frame_equal(kept, three().assign(distance=[1.0, 0.0, 2.0]))
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


@pytest.mark.parametrize("after", [Nearest(), MeanVariance(), Interference()])
def test_a_chain_whose_first_drops_all_says_so(after: Filter) -> None:
    rows = table(row("a", "p", ""), row("b", "q", ""))
    with pytest.raises(UserError, match=r"drops all 2 rows \(\{'empty': 2\}\); loosen its strategy"):
        run_filters(rows, seen_of(rows), [("clean", Clean()), ("after", after)], "filter f")


def test_a_filter_that_drops_all_is_refused_with_the_counts() -> None:
    rows = table(row("a", "p", ""), row("b", "p", "x"), row("c", "p", "y"))
    with pytest.raises(UserError) as caught:
        run_filters(rows, seen_of(rows), [("clean", Clean())], "filter f")
    assert str(caught.value) == (
        "filter f: the filter drops all 3 rows ({'contradiction': 2, 'empty': 1}); loosen its strategy"
    )


def related() -> pd.DataFrame:
    return table(
        *(row(f"{r}{i}", f"p{r}{i}", f"t{i}", relation=r) for r, n in (("a", 4), ("b", 2), ("", 1)) for i in range(n))
    )


def test_a_lost_relation_is_refused_with_its_name_and_a_way_out() -> None:
    rows = related()
    seen = seen_of(rows, [0.1, 0.2, 0.3, 0.4, 1.0, 1.1, 1.2])
    chain = [("nearest", Nearest(keep=0.5))]
    with pytest.raises(UserError) as caught:
        run_filters(rows, seen, chain, "filter f")
    assert str(caught.value) == (
        "filter f: it drops all rows of 1 of 2 relations: 'b'; loosen its strategy, rank within each "
        "(filters.f.stratify: relation), or allow it (filters.f.allow_lost: true)"
    )
    kept, _ = run_filters(rows, seen, chain, "filter f", Limits(allow_lost=True))
    assert kept["id"].tolist() == ["a0", "a1", "a2", "a3"]
    kept, _ = run_filters(rows, seen, chain, "filter f", Limits(stratify="relation"))
    assert kept["id"].tolist() == ["a0", "a1", "b0", "0"]


def test_many_lost_labels_are_cut_and_rows_without_one_are_no_label() -> None:
    rows = table(*(row(str(i), f"p{i}", f"label {i}" if i < 8 else "") for i in range(9)))
    chain = [("few", DropTargets(targets=[*(f"label {i}" for i in range(1, 8)), ""]))]
    with pytest.raises(
        UserError, match=r"7 of 8 targets: 'label 1', 'label 2', 'label 3', 'label 4', 'label 5' and 2 m"
    ):
        run_filters(rows, seen_of(rows), chain, "filter f", Limits(group="target"))
    chain = [("few", DropTargets(targets=[""]))]
    assert len(run_filters(rows, seen_of(rows), chain, "filter f", Limits(group="target"))[0]) == 8


def test_nothing_left_is_refused_whatever_is_allowed() -> None:
    with pytest.raises(UserError, match="drops all 3 rows"):
        chain = [("all", DropTargets(targets=["x", "y", "z"]))]
        run_filters(three(), seen_of(three()), chain, "f", Limits(allow_lost=True))


@pytest.mark.parametrize("member", [Nearest(keep=0.5), MeanVariance(keep=0.5)])
def test_equal_distances_are_refused_for_ids_alone_would_choose(member: Filter) -> None:
    rows = related()
    seen = seen_of(rows, [1.0] * 7)
    for limits in (Limits(allow_lost=True), Limits(stratify="relation", allow_lost=True)):
        with pytest.raises(UserError) as caught:
            run_filters(rows, seen, [("by_distance", member)], "filter f", limits)
        assert str(caught.value).startswith(
            "filter f: by_distance: the distances of all 7 rows are equal (1), so that it would choose by id alone"
        )
    kept, _ = run_filters(rows, seen, [("by_distance", member.model_copy(update={"keep": 1.0}))], "filter f")
    assert len(kept) == 7


def test_equal_distances_within_a_stratum_alone_are_fine() -> None:
    rows = related()
    seen = seen_of(rows, [0.5, 0.5, 0.5, 0.5, 0.1, 0.2, 1.0])
    kept, dropped = run_filters(rows, seen, [("n", Nearest(keep=0.5))], "f", Limits(stratify="relation"))
    assert kept["id"].tolist() == ["a0", "a1", "b0", "0"]
    assert dropped["reason"].iloc[0] == "far: distance 0.5000 = (by id) 0.5000"


def test_a_task_without_distances_and_answers_without_sketches_are_refused() -> None:
    rows = three()
    with pytest.raises(UserError) as caught:
        run_filters(rows, seen_of(rows, [0.1, np.nan, np.nan]), [("nearest", Nearest())], "filter f")
    assert str(caught.value) == (
        "filter f: nearest needs distances, and 2 of 3 answers have none; a task "
        "whose answers are numbers has none at all"
    )
    with pytest.raises(UserError) as caught:
        run_filters(rows, Seen(seen_of(rows).answers), [("interference", Interference())], "filter f")
    assert str(caught.value) == (
        "filter f: interference needs sketches of gradients, and the answers have none; set `answers.sketch` in "
        "params.yaml"
    )
    kept, _ = run_filters(rows, seen_of(rows, [np.nan] * 3), [("clean", Clean())], "filter f")
    assert kept["distance"].isna().all()


def test_a_verdict_parts_any_chunk_of_its_rows() -> None:
    rows = related()
    chain = [("some", DropTargets(targets=["t1"])), ("nearest", Nearest(keep=0.5))]
    verdict = decide(rows, seen_of(rows), chain, "f", Limits(allow_lost=True))
    assert verdict["step"].isin([0, 1, 2]).all()
    assert ((verdict["reason"] == "") == (verdict["step"] == 2)).all()
    whole = split(rows, verdict, chain, "f")
    chunks = [split(rows.iloc[i : i + 3], verdict.iloc[i : i + 3], chain, "f") for i in (0, 3, 6)]
    for number in (0, 1):
        together = pd.concat([chunk[number] for chunk in chunks], ignore_index=True)
        pd.testing.assert_frame_equal(whole[number], together)
    with pytest.raises(AssertionError, match="other rows"):
        split(rows[::-1], verdict, chain, "f")


def test_sketches_follow_their_rows_through_chain_and_strata() -> None:
    rows = related().set_axis(range(5, 12))

    class Look(Filter):
        """Compare each sketch with the one that its id gives."""

        ranks = True

        def reasons(self, rows: pd.DataFrame, seen: Seen) -> pd.Series:  # type: ignore[type-arg]
            found = np.concatenate(list(seen.sketch_slices(1)))
            np.testing.assert_array_equal(found, seen_of(rows).sketches)
            assert found.dtype == np.float64
            return pd.Series("", index=rows.index, dtype="str")

    chain = [("some", DropTargets(targets=["t1"])), ("look", Look())]
    kept, _ = run_filters(rows, seen_of(rows), chain, "f", Limits(stratify="relation"))
    assert kept["id"].tolist() == ["a0", "a2", "a3", "b0", "0"]
