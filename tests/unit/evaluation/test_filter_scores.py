from __future__ import annotations

import pandas as pd

from knowtune.data.label_noise import KINDS
from knowtune.evaluation.filter_scores import score_filter


def trained(num: int) -> pd.DataFrame:
    return pd.DataFrame({"id": [f"r{i}" for i in range(num)]})


INJECTED = pd.DataFrame({"id": ["r0", "r1", "r2", "r3"], "kind": ["empty", "empty", "duplicate", "wrong_same"]})


def test_by_hand() -> None:
    found = score_filter(trained(10), INJECTED, pd.DataFrame({"id": ["r0", "r2", "r8", "r9"]}))
    assert (found["rows"], found["dropped"], found["sound"], found["sound_dropped"]) == (10, 4, 6, 2)
    assert list(found["kinds"]) == list(KINDS)
    assert found["kinds"]["empty"] == {
        "injected": 2, "dropped": 1, "recall": 0.5, "precision": 0.25, "base_rate": 0.2
    }  # fmt: skip
    assert found["kinds"]["duplicate"] == {
        "injected": 1, "dropped": 1, "recall": 1.0, "precision": 0.25, "base_rate": 0.1
    }  # fmt: skip
    assert found["kinds"]["wrong_same"] == {
        "injected": 1, "dropped": 0, "recall": 0.0, "precision": 0.0, "base_rate": 0.1
    }  # fmt: skip
    assert found["kinds"]["contradiction"] == {
        "injected": 0, "dropped": 0, "recall": None, "precision": 0.0, "base_rate": 0.0
    }  # fmt: skip


def test_a_filter_that_drops_nothing() -> None:
    found = score_filter(trained(10), INJECTED, pd.DataFrame({"id": []}))
    assert (found["dropped"], found["sound_dropped"]) == (0, 0)
    assert found["kinds"]["empty"] == {
        "injected": 2, "dropped": 0, "recall": 0.0, "precision": None, "base_rate": 0.2
    }  # fmt: skip


def test_the_counts_add_up() -> None:
    found = score_filter(trained(10), INJECTED, trained(7))
    assert sum(kind["dropped"] for kind in found["kinds"].values()) + found["sound_dropped"] == found["dropped"] == 7
