from __future__ import annotations

import pytest

from knowtune.evaluation.metrics.kl_to_base_prompts import KLToBasePrompts
from tests.unit.evaluation.metrics.tables import compute, without


def test_by_hand() -> None:
    assert compute(KLToBasePrompts()) == pytest.approx((4 * 0.5 + 10 * 0.1 + 5 * 0.2 + 5 * 0.4) / 31)


def test_prompts_of_other_examples_are_not_read() -> None:
    assert without(KLToBasePrompts(), "generalisation") is None
    assert without(KLToBasePrompts(), "reliability") == compute(KLToBasePrompts())
