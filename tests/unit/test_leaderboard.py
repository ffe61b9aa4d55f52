from __future__ import annotations

import pandas as pd
import pytest

from knowtune.errors import UserError
from knowtune.leaderboard import beside_base, compute_metrics, over_seeds
from knowtune.metrics import METRICS

from .metrics.tables import ITEMS, TEXTS

OWN = ITEMS.drop(columns=["base_correct", "base_loss"])
OWN_TEXTS = TEXTS.drop(columns="base_loss")


def test_the_base_stands_beside_each_item() -> None:
    base_items = OWN.assign(correct=[i % 2 == 0 for i in range(17)], loss=[i / 10 for i in range(17)])
    items, texts = beside_base(OWN, OWN_TEXTS, base_items, OWN_TEXTS.assign(loss=[3, 4]))
    assert items["correct"].tolist() == OWN["correct"].tolist()
    assert items["base_correct"].tolist() == [i % 2 == 0 for i in range(17)]
    assert items["base_loss"].tolist() == [i / 10 for i in range(17)]
    assert texts["base_loss"].tolist() == [3.0, 4.0]
    assert texts["loss"].tolist() == [2.0, 1.0]


@pytest.mark.parametrize("which", ["items", "texts"])
def test_a_baseline_of_other_items_is_refused(which: str) -> None:
    items, texts = OWN, OWN_TEXTS
    if which == "items":
        items = items[::-1].reset_index(drop=True)
    else:
        texts = texts[:1]
    with pytest.raises(UserError) as caught:
        beside_base(OWN, OWN_TEXTS, items, texts)
    assert str(caught.value) == (
        "evaluate: the baseline has other items than this evaluation; run the baseline stage again"
    )


def test_metrics_by_name() -> None:
    assert compute_metrics(["forgotten", "reliability"], ITEMS, TEXTS) == {"forgotten": 1 / 8, "reliability": 3 / 4}


def test_a_metric_with_nothing_to_measure_is_left_out() -> None:
    assert compute_metrics(list(METRICS), ITEMS[ITEMS["kind"] == "reliability"], TEXTS[:0]) == {"reliability": 0.75}


def test_an_unknown_metric() -> None:
    with pytest.raises(UserError, match=r"^no metric is called 'forgoten'; known: .*; did you mean 'forgotten'\?$"):
        compute_metrics(["forgoten"], ITEMS, TEXTS)


def test_over_seeds() -> None:
    found = over_seeds({"seed-0": {"known": 0.0, "locality": 1.0}, "seed-1": {"known": 1.0, "locality": 1.0}})
    assert found["known"] == {"mean": 0.5, "half_width": pytest.approx(12.7062047 / 2), "n": 2}
    assert found["locality"] == {"mean": 1.0, "half_width": 0.0, "n": 2}
    assert over_seeds({"seed-0": {"known": 0.25}}) == {"known": {"mean": 0.25, "half_width": None, "n": 1}}


def test_no_item_at_all() -> None:
    assert compute_metrics(list(METRICS), ITEMS[:0], pd.DataFrame(columns=TEXTS.columns)) == {}
