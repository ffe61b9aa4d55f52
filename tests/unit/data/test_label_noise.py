from __future__ import annotations

import pandas as pd
import pytest

from knowtune.common.errors import UserError
from knowtune.data.contract import ROW_COLUMNS, ROWS, check
from knowtune.data.label_noise import KINDS, NOISE_COLUMNS, inject
from tests.unit.helpers import row, table

RATES = {"wrong": 0.2, "contradictions": 0.1, "duplicates": 0.1, "empties": 0.05}
NONE = dict.fromkeys(RATES, 0.0)


def many(num: int = 60) -> pd.DataFrame:
    rows = [
        row(f"{relation}:{i:03}", f"{relation} {i} is", f"{relation}-{i % 5}", relation, str(i))
        for i in range(num // 3)
        for relation in ("colour", "town", "food")
    ]
    return table(*rows)


def test_exact_counts_per_kind() -> None:
    noisy, injected = inject(many(), RATES, seed=0)
    counts = injected["kind"].value_counts().to_dict()
    assert counts == {"wrong_same": 6, "wrong_other": 6, "contradiction": 6, "duplicate": 6, "empty": 3}
    assert len(noisy) == 60 + 6 + 6


def test_an_odd_number_of_wrong_rows_has_one_more_of_another_relation() -> None:
    _, injected = inject(many(), {**NONE, "wrong": 0.05}, seed=0)
    assert injected["kind"].tolist() == ["wrong_same", "wrong_other", "wrong_other"]


def test_where_there_is_one_relation_all_wrong_rows_are_of_it() -> None:
    rows = table(*(row(str(i), f"p{i}", "bad" if i % 2 else "good", relation="") for i in range(20)))
    noisy, injected = inject(rows, {**NONE, "wrong": 0.2}, seed=0)
    assert injected["kind"].tolist() == ["wrong_same"] * 4
    now = noisy.set_index("id")["target"]
    assert all(now[entry["id"]] != entry["original"] for entry in injected.to_dict("records"))


@pytest.mark.parametrize(("share", "count"), [(0.07, 7), (0.14, 14), (0.28, 28), (0.55, 55), (0.065, 7)])
def test_a_share_that_floats_cannot_write_still_counts_exactly(share: float, count: int) -> None:
    rows = table(*(row(f"{i:03}", f"p{i}", f"t{i}") for i in range(100)))
    _, injected = inject(rows, {**NONE, "empties": share}, seed=0)
    assert len(injected) == count


def test_nothing_is_injected_at_rate_zero() -> None:
    rows = many()
    noisy, injected = inject(rows, NONE, seed=0)
    pd.testing.assert_frame_equal(noisy, rows)
    assert (len(injected), injected.columns.tolist()) == (0, NOISE_COLUMNS)


def test_a_row_carries_one_kind_and_ids_are_unique() -> None:
    noisy, injected = inject(many(), RATES, seed=3)
    assert injected["source_id"].is_unique
    assert injected["id"].is_unique
    assert noisy["id"].is_unique
    assert set(injected["id"]) <= set(noisy["id"])
    assert set(injected["kind"]) == set(KINDS)


def test_noisy_rows_pass_the_contract() -> None:
    noisy, _ = inject(many(), RATES, seed=1)
    assert len(check(noisy, ROWS, "x")) == len(noisy)
    assert noisy.columns.tolist() == ROW_COLUMNS


def test_what_each_kind_does() -> None:
    rows = many()
    true = rows.set_index("id")
    noisy, injected = inject(rows, RATES, seed=2)
    now = noisy.set_index("id")
    for entry in injected.to_dict("records"):
        was, is_now = true.loc[entry["source_id"]], now.loc[entry["id"]]
        same = set(rows[rows["relation"] == was["relation"]]["target"])
        assert entry["original"] == was["target"]
        assert is_now["prompt"] == was["prompt"]
        if entry["kind"] in ("wrong_same", "contradiction"):
            assert is_now["target"] in same - {was["target"]}
        elif entry["kind"] == "wrong_other":
            assert is_now["target"] in set(rows["target"]) - same
        elif entry["kind"] == "duplicate":
            assert is_now["target"] == was["target"]
        else:
            assert is_now["target"] == ""
        further = entry["kind"] in ("contradiction", "duplicate")
        assert entry["id"] == (f"{entry['source_id']}#{entry['kind']}" if further else entry["source_id"])
        if further:
            assert now.loc[entry["source_id"], "target"] == was["target"]


def test_rows_without_noise_stay_as_they_were_and_in_their_place() -> None:
    rows = many()
    noisy, injected = inject(rows, RATES, seed=0)
    assert noisy["id"].tolist()[: len(rows)] == rows["id"].tolist()
    sound = ~rows["id"].isin(injected["id"])
    pd.testing.assert_frame_equal(noisy[: len(rows)][sound.to_numpy()], rows[sound])


def test_the_order_read_does_not_matter() -> None:
    rows = many()
    other = rows.sample(frac=1, random_state=5).reset_index(drop=True)
    (one, injected), (two, injected_two) = inject(rows, RATES, seed=0), inject(other, RATES, seed=0)
    pd.testing.assert_frame_equal(injected, injected_two)
    by_id = [t.sort_values("id").reset_index(drop=True) for t in (one, two)]
    pd.testing.assert_frame_equal(*by_id)


def test_same_seed_same_noise_other_seed_other_noise() -> None:
    pd.testing.assert_frame_equal(inject(many(), RATES, seed=4)[1], inject(many(), RATES, seed=4)[1])
    assert not inject(many(), RATES, seed=4)[1].equals(inject(many(), RATES, seed=5)[1])


def test_the_rows_given_are_not_touched() -> None:
    rows = many()
    inject(rows, RATES, seed=0)
    pd.testing.assert_frame_equal(rows, many())


def test_a_contradiction_differs_by_more_than_case() -> None:
    rows = table(*(row(str(i), f"p{i}", target) for i, target in enumerate(["Red", "red", "RED", "blue"])))
    _, injected = inject(rows, {**NONE, "contradictions": 1.0}, seed=0)
    noisy, _ = inject(rows, {**NONE, "contradictions": 1.0}, seed=0)
    now = noisy.set_index("id")["target"]
    assert len(injected) == 4
    for entry in injected.to_dict("records"):
        assert now[entry["id"]].casefold() != entry["original"].casefold()


def test_noise_that_cannot_be_injected_is_refused() -> None:
    rows = table(row("a", "p", "t"), row("b", "q", "t"))
    with pytest.raises(UserError) as caught:
        inject(rows, {**NONE, "contradictions": 1.0}, seed=0)
    assert str(caught.value) == (
        "prepare.label_noise: no row is left that can carry contradiction (2 are wanted of 2 rows); lower the rates"
    )
