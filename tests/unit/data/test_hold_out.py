from __future__ import annotations

from knowtune.data.hold_out import hold_out
from tests.unit.helpers import row, table

TWICE = table(*(row(f"{i}/{n}", f"p{i} {n}", f"t{i}", fact=f"f{i}") for i in range(20) for n in range(2)))


def test_roles_share_no_row_and_lose_none() -> None:
    parts = hold_out(TWICE, {"test": 0.2, "validation": 0.1}, 0, by_fact=False)
    assert {role: len(rows) for role, rows in parts.items()} == {"train": 28, "test": 8, "validation": 4}
    assert sorted(row_id for rows in parts.values() for row_id in rows["id"]) == sorted(TWICE["id"])


def test_of_each_fact_a_prompt_stays() -> None:
    parts = hold_out(TWICE, {"test": 0.9}, 0, by_fact=True)
    assert sorted(parts["train"]["fact"]) == sorted(set(TWICE["fact"]))
    assert len(parts["test"]) == 20


def test_a_prompt_goes_with_all_its_rows() -> None:
    rows = table(*(row(f"{i}/{n}", f"p{i}", f"t{n}", fact=f"f{i}") for i in range(10) for n in range(3)))
    parts = hold_out(rows, {"test": 0.2}, 0, by_fact=False)
    assert not set(parts["test"]["prompt"]) & set(parts["train"]["prompt"])
    assert len(parts["test"]) == 6


def test_the_order_of_a_file_does_not_choose() -> None:
    one, other = (hold_out(rows, {"test": 0.2}, 3, by_fact=False)["test"]["id"] for rows in (TWICE, TWICE[::-1]))
    assert set(one) == set(other)
