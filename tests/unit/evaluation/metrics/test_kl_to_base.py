from __future__ import annotations

import pytest

from knowtune.evaluation.metrics.base import Judged
from knowtune.evaluation.metrics.kl_to_base import KLToBase
from tests.unit.evaluation.metrics.tables import EXAMPLES, TEXTS, compute


def test_by_hand() -> None:
    assert compute(KLToBase()) == pytest.approx((30 * 0.5 + 10 * 0.1) / 40)


def test_none_without_texts() -> None:
    assert KLToBase().compute(Judged(EXAMPLES, TEXTS[:0])) is None
