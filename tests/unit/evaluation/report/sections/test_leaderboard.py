from __future__ import annotations

from knowtune.evaluation.leaderboard import Entry
from knowtune.evaluation.report.sections.leaderboard import Column
from tests.unit.evaluation.test_leaderboard import interval


def column(*means: float, arrow: str = "↑", least: float = 0.0) -> Column:
    base = Entry("base", "", None, None, {"m": interval(0.99, None, 1)})
    tuned = [Entry(f"run{i}", "", 5, None, {"m": interval(mean, 0.01)}) for i, mean in enumerate(means)]
    return Column("m", arrow, "%", "", 100, [base, *tuned], signed=False, least=least)


def test_the_best_are_those_that_are_not_clearly_worse() -> None:
    made = column(0.5, 0.495, 0.4)
    assert made.noise is not None and 0.005 < made.noise < 0.1
    assert [entry.name for entry in made.best] == ["run0", "run1"]
    assert [entry.name for entry in column(0.5, 0.495, 0.4, arrow="↓").best] == ["run2"]


def test_what_the_base_differs_from_itself_by_is_noise_too() -> None:
    assert column(0.5, 0.4, least=0.3).noise == 0.3


def test_seeds_without_a_value_are_named() -> None:
    made = column(0.5)
    entry = Entry("x", "", 5, None, {"m": {**interval(0.5, 0.02, 2), "without": 1}})
    assert made.cell(entry)["text"] == "50.0 ± 2.0 (2 of 3 seeds)"
    assert made.cell(Entry("y", "", 5, None, {})) == {"text": "–", "value": None}
