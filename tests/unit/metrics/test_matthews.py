from __future__ import annotations

import pytest

from knowtune.families import Judged
from knowtune.metrics.matthews import Matthews

from .tables import CLASSIFICATION, NUM_TOKENS, answered, emptied


def test_by_hand() -> None:
    assert Matthews().compute(CLASSIFICATION) == pytest.approx((3 * 5 - 1 * 1) / (4 * 4 * 6 * 6) ** 0.5)


@pytest.mark.parametrize("target", [["good", "bad"], ["bad", "bad"]])
def test_one_label_for_all_is_zero_without_a_warning(target: list[str]) -> None:
    assert Matthews().compute(Judged(answered(target, ["bad", "bad"]), NUM_TOKENS, labels=("bad", "good"))) == 0.0


def test_none_without_items() -> None:
    assert Matthews().compute(emptied(CLASSIFICATION)) is None
