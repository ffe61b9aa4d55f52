from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from knowtune.common.files import write_json
from knowtune.filters.band import Band
from knowtune.filters.base import Filter
from knowtune.filters.chain import Limits, decide
from knowtune.filters.clean import Clean
from knowtune.filters.interference import Interference
from knowtune.filters.nearest import Nearest
from knowtune.filters.sketch_cosines import cosines_with_others
from knowtune.filters.summary import BINS, MOST_GROUPS, cuts, row_cosines, summarise
from tests.unit.helpers import fact_rows, row, seen_of, table


def summary_of(rows: pd.DataFrame, chain: list[tuple[str, Filter]], limits: Limits = Limits(allow_lost=True)) -> dict:  # noqa: B008
    seen = seen_of(rows)
    verdict = decide(rows, seen, chain, "f", limits)
    return summarise(rows, seen, verdict, chain, limits, row_cosines(seen, verdict, chain))


def test_everything_is_counted_once() -> None:
    rows = pd.concat([fact_rows(), table(row("x", "p", ""))], ignore_index=True)
    chain = [("clean", Clean()), ("nearest", Nearest(keep=0.5)), ("nearest", Nearest(keep=0.5))]
    found = summary_of(rows, chain)
    dropped = {"1. clean": 1, "2. nearest": 12, "3. nearest": 6}
    assert found["rows"] == {"read": 25, "kept": 6, "dropped": dropped}
    histogram = found["distances"]
    assert len(histogram["edges"]) == BINS + 1
    assert histogram["edges"][0] == 0
    assert sum(histogram["kept"]) == 6
    assert {name: sum(counts) for name, counts in histogram["dropped"].items()} == dropped
    assert list(histogram["cuts"]) == ["2. nearest", "3. nearest"]
    assert histogram["cuts"]["2. nearest"][0] > histogram["cuts"]["3. nearest"][0]
    groups = found["groups"]
    assert (groups["by"], groups["number"], sum(groups["read"]), sum(groups["kept"])) == ("relation", 3, 25, 6)
    assert groups["names"] == ["colour", "town", "r"]


def test_what_no_strategy_looks_at_is_not_told() -> None:
    found = summary_of(fact_rows(), [("clean", Clean())])
    assert found["distances"] is None
    assert found["interference"] is None


def test_groups_are_the_largest(tmp_path: object) -> None:
    rows = table(
        *(row(f"{i}:{j}", f"p{i}{j}", "t", relation=f"r{i:03}") for i in range(210) for j in range(1 + (i == 205)))
    )
    groups = summary_of(rows, [("band", Band(hi=2.0))])["groups"]
    assert groups["number"] == 210
    assert len(groups["names"]) == MOST_GROUPS
    assert groups["names"][:2] == ["r205", "r000"]


def test_interference_is_told_of_the_rows_that_the_strategy_saw() -> None:
    rows = pd.concat([fact_rows(), table(row("x", "p", ""))], ignore_index=True)
    found = summary_of(rows, [("clean", Clean()), ("interference", Interference(keep=0.5))])["interference"]
    assert found["groups"] == ["colour", "town"]
    assert np.array(found["cosines"]).shape == (2, 2)
    assert found["cosines"][0][1] == found["cosines"][1][0]
    exact = cosines_with_others(seen_of(fact_rows()))
    assert found["with_the_others"]["0"] == exact.min()
    assert found["with_the_others"]["0.5"] == pytest.approx(np.median(exact))


def test_every_row_that_was_compared_has_its_cosine() -> None:
    rows = pd.concat([table(row("x", "p", "")), fact_rows()], ignore_index=True)
    chain, seen = [("clean", Clean()), ("interference", Interference(keep=0.5))], seen_of(rows)
    limits = Limits(allow_lost=True)
    found = row_cosines(seen, decide(rows, seen, chain, "f", limits), chain)
    assert found is not None
    assert found["id"].tolist() == fact_rows()["id"].tolist()
    assert found["cosine"].tolist() == cosines_with_others(seen.at(np.arange(1, len(rows)))).tolist()
    assert row_cosines(seen, decide(rows, seen, chain[:1], "f", limits), chain[:1]) is None


def test_it_is_json_whatever_happens(tmp_path) -> None:  # type: ignore[no-untyped-def]
    chain = [("interference", Interference()), ("nearest", Nearest())]
    write_json(tmp_path / "summary.json", summary_of(table(row("a", "p", "t")), chain))
    assert json.loads((tmp_path / "summary.json").read_text())["interference"]["cosines"] == [[None]]


class TestCuts:
    def test_between_two_distances(self) -> None:
        assert cuts(np.array([0.1, 0.9, 0.5]), np.array([False, True, False])) == [0.7]

    def test_at_a_distance_that_is_kept_and_dropped(self) -> None:
        assert cuts(np.array([0.1, 0.5, 0.5, 0.9]), np.array([False, False, True, True])) == [0.5]

    def test_a_band_and_a_middle_have_two(self) -> None:
        found = cuts(np.array([0.0, 1.0, 2.0, 1.5]), np.array([True, False, True, False]))
        assert found == [0.5, 1.75]

    def test_strata_and_keeping_all_have_none(self) -> None:
        turns = np.array([False, True] * 4)
        assert cuts(np.arange(8.0), turns) == []
        assert cuts(np.arange(8.0), np.zeros(8, dtype=bool)) == []
