from __future__ import annotations

from collections.abc import Callable

from cli.sweeping.file import Sweep, short_names, with_values
from tests.unit.cli.sweeping.conftest import GRID


def test_a_grid_is_all_combinations_each_with_a_name_of_its_values(sweep: Callable[[str], Sweep]) -> None:
    points = sweep(GRID).grid()
    assert [point.label for point in points] == [
        f"rank={rank}, learning_rate={rate}" for rank in (4, 16) for rate in ("0.001", "0.004")
    ]
    assert len({point.name for point in points} | {point.run for point in points}) == 8
    assert points[3].params["runs"]["lora"]["options"] == {"rank": 16, "alpha": 32}
    assert points[3].params["runs"]["lora"]["training"] == {"learning_rate": 0.004}
    assert points[0].name == sweep(GRID.replace("[4, 16]", "[8, 4]")).grid()[2].name  # whatever else is tried


def test_what_an_anchor_shares_is_each_places_own() -> None:
    shared = {"rank": 2}
    params = with_values({"runs": {"a": shared, "b": shared}}, {"runs.a.rank": 4, "runs.a.training.epochs": 1})
    assert params == {"runs": {"a": {"rank": 4, "training": {"epochs": 1}}, "b": {"rank": 2}}}
    assert shared == {"rank": 2}


def test_a_path_is_called_by_as_little_as_tells_it_apart() -> None:
    paths = ["runs.a.options.rank", "runs.b.options.rank", "threads", "training.epochs"]
    assert list(short_names(paths).values()) == ["a.options.rank", "b.options.rank", "threads", "epochs"]
