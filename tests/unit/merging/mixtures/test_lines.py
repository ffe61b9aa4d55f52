from __future__ import annotations

import pytest

from knowtune.merging.mixtures.base import Position
from knowtune.merging.mixtures.lines import Lines


def test_the_share_grows_linearly_with_depth() -> None:
    made = Lines(alpha=0.2, beta=0.6)
    shares = [made.kept_share(Position(block, 4)) for block in (1, 2, 3, 4)]
    assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_the_first_block_goes_back_and_the_last_is_kept_whole() -> None:
    assert [Lines().kept_share(Position(block, 3)) for block in (1, 2, 3)] == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.3, 0.5, 0.7, 1.0])
def test_the_last_block_is_whole_whatever_the_first_keeps(alpha: float) -> None:
    shares = [Lines(alpha=alpha).kept_share(Position(block, 4)) for block in (1, 2, 3, 4)]
    assert shares == pytest.approx([alpha + (1 - alpha) * part / 3 for part in range(4)])
    assert (shares[0], shares[-1]) == (alpha, 1.0)


def test_a_beta_of_ones_own_may_go_beyond_the_tuned_model() -> None:
    shares = [Lines(alpha=0.5, beta=1.0).kept_share(Position(block, 4)) for block in (1, 2, 3, 4)]
    assert shares == pytest.approx([0.5, 5 / 6, 7 / 6, 1.5])


def test_outside_of_the_blocks_stands_alpha_and_a_classifiers_head_is_kept() -> None:
    made = Lines(alpha=0.1)
    assert made.kept_share(Position(None, 0)) == 0.1
    assert made.kept_share(Position(None, 0, in_head=True)) == 1.0


def test_a_single_block_has_no_depth() -> None:
    with pytest.raises(ValueError, match="lines needs several blocks; interpolate scales all weights alike"):
        Lines().kept_share(Position(1, 1))
