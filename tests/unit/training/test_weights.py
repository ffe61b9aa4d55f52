from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from knowtune.common.errors import UserError
from knowtune.training.weights import Weighting

GENERATOR = np.random.default_rng(0)
DISTANCES = GENERATOR.uniform(0, 2, 50)
COUNTS = GENERATOR.integers(1, 9, 50)
FORMS: list[dict[str, Any]] = [
    {"form": form, "alpha": alpha} for form in ("linear", "exponential") for alpha in (-2.0, -0.3, 0.5, 100.0)
]


def weights(distances: Any = DISTANCES, counts: Any = COUNTS, **options: Any) -> np.ndarray[Any, Any]:
    return Weighting(**options).weights(np.asarray(distances, dtype=float), np.asarray(counts), "runs.x.reweight")


@pytest.mark.parametrize("options", FORMS)
class TestEveryForm:
    def test_all_are_positive_and_their_mean_over_tokens_is_1(self, options: dict[str, Any]) -> None:
        found = weights(**options)
        assert (found > 0).all()
        assert abs((found * COUNTS).sum() / COUNTS.sum() - 1) < 1e-12
        assert found.std() > 0.05

    def test_the_sign_says_who_counts_more(self, options: dict[str, Any]) -> None:
        found = weights(**options)[np.argsort(DISTANCES)]
        steps = np.diff(found) * np.sign(options["alpha"])
        assert (steps >= 0).all()
        assert steps.max() > 0

    def test_a_shift_of_the_distances_changes_nothing(self, options: dict[str, Any]) -> None:
        assert weights(DISTANCES / 2 + 1, **options) == pytest.approx(weights(DISTANCES / 2, **options), rel=1e-9)

    def test_the_order_of_the_rows_does_not_matter(self, options: dict[str, Any]) -> None:
        order = GENERATOR.permutation(50)
        assert weights(DISTANCES[order], COUNTS[order], **options) == pytest.approx(weights(**options)[order], rel=1e-9)

    def test_no_row_outweighs_another_by_more_than_the_bounds(self, options: dict[str, Any]) -> None:
        found = weights(**options, lowest=0.5, highest=2.0)
        assert found.max() / found.min() <= 4 + 1e-9

    @pytest.mark.parametrize("distances", [[0.7], [0.1, 0.1, 0.1], [0.1, 0.1 + 1e-9, 0.1]])
    def test_one_row_or_equal_distances_have_weight_1(self, options: dict[str, Any], distances: list[float]) -> None:
        assert weights(distances, [3] * len(distances), **options) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("form", ["linear", "exponential"])
def test_alpha_0_is_exactly_1(form: str) -> None:
    assert (weights(form=form, alpha=0.0) == 1.0).all()
    assert (weights(form=form, alpha=-0.0, lowest=1.0, highest=1.0) == 1.0).all()


@pytest.mark.parametrize("factor", [0.01, 0.5, 3.0])
def test_the_linear_form_knows_no_scale(factor: float) -> None:
    assert weights(DISTANCES * factor, alpha=0.8) == pytest.approx(weights(alpha=0.8), rel=1e-9)


def test_linear_by_hand() -> None:
    # mean 0.5, std 0.25: 1 - 2 -> clipped to 0.25, 1, 1, 1 + 2 -> 3; the token mean is (2 * 0.25 + 1 + 1 + 4 * 3) / 8
    found = weights([0.25, 0.5, 0.5, 0.75], [2, 1, 1, 4], alpha=2.0**0.5, lowest=0.25, highest=9.0)
    assert found == pytest.approx(np.array([0.25, 1, 1, 3]) / (14.5 / 8))


def test_exponential_by_hand() -> None:
    found = weights([0.0, 1.0], [1, 1], form="exponential", alpha=-2.0)  # e^1 against e^-1
    assert found == pytest.approx([2 * np.e / (np.e + 1 / np.e), 2 / np.e / (np.e + 1 / np.e)])


def test_clipping_comes_before_normalising() -> None:
    options: dict[str, Any] = {"form": "exponential", "alpha": 50.0, "lowest": 0.5, "highest": 1.0}
    assert weights([0.0, 1.0, 2.0], [1, 1, 1], **options) == pytest.approx(np.array([0.5, 1.0, 1.0]) * 3 / 2.5)
    assert Weighting(**options).num_clipped(np.array([0.0, 1.0, 2.0])) == 2


def test_a_missing_distance_names_the_key() -> None:
    with pytest.raises(UserError) as caught:
        weights([0.1, np.nan, np.nan], [1, 1, 1])
    assert str(caught.value) == (
        "params.yaml: runs.x.reweight: 2 of 3 rows have no distance; allowed: rows that the answers stage has "
        "measured. Take `reweight` away, or run that stage again"
    )


@pytest.mark.parametrize(
    "options",
    [
        {"lowest": 0.0},
        {"lowest": 1.1},
        {"highest": 0.9},
        {"highest": float("inf")},
        {"alpha": float("nan")},
        {"alpha": float("inf")},
        {"form": "cubic"},
        {"granularity": "batch"},
        {"refresh_steps": 0},
        {"tau": 1.0},
        {"threshold": 2.5},
        {"form": "flow", "threshold": 2.5},
        {"form": "flow", "alpha": 1.0},
        {"form": "flow", "refresh_steps": 5},
        {"form": "flow", "granularity": "token"},
        {"form": "stm", "granularity": "example"},
        {"form": "stm", "lowest": 0.5},
        {"form": "stm", "highest": 2.0},
        {"form": "stm", "threshold": 1.0},
    ],
)
def test_bounds_of_the_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Weighting(**options)


class TestByLoss:
    """Two forms that weigh by the pristine base's loss."""

    def test_flow_by_hand(self) -> None:
        # median 2: exp(-1/2), exp(-1), exp(-3/2)
        expected = np.exp([-0.5, -1.0, -1.5])
        counts = np.array([2, 1, 3])
        assert weights([1.0, 2.0, 3.0], counts, form="flow") == pytest.approx(expected * 6 / (expected * counts).sum())

    def test_flow_knows_no_scale_and_no_order(self) -> None:
        order = GENERATOR.permutation(50)
        found = weights(form="flow")
        assert weights(DISTANCES * 7, form="flow") == pytest.approx(found, rel=1e-12)
        assert weights(DISTANCES[order], COUNTS[order], form="flow") == pytest.approx(found[order], rel=1e-12)
        assert (np.diff(found[np.argsort(DISTANCES)]) < 0).all()  # what the base expects least counts least

    def test_stm_by_hand(self) -> None:
        perplexities = [1.0, 2.4, 2.5, 2.6, 900.0]
        losses = np.log(perplexities)
        assert weights(losses, [1] * 5, form="stm").tolist() == pytest.approx([5 / 3] * 3 + [0, 0])
        assert weights(losses, [1] * 5, form="stm", threshold=100.0).tolist() == pytest.approx([5 / 4] * 4 + [0])
        assert (weights(losses, [1] * 5, form="stm", threshold=1000.0) == 1.0).all()
        assert Weighting(form="stm").granularity == "token"

    @pytest.mark.parametrize("options", [{"form": "flow"}, {"form": "stm"}])
    def test_the_mean_over_target_tokens_is_1(self, options: dict[str, Any]) -> None:
        found = weights(**options)
        assert (found >= 0).all()
        assert abs((found * COUNTS).sum() / COUNTS.sum() - 1) < 1e-12
        assert found.std() > 0.05
        assert Weighting(**options).num_clipped(DISTANCES) == 0

    @pytest.mark.parametrize(
        ("options", "losses", "message"),
        [
            (
                {"form": "stm"},
                np.log([3.0, 4.0]),
                "params.yaml: runs.x.reweight.threshold: got 2.5, which masks all 2 target tokens; the base's lowest "
                "perplexity of one is 3. Raise it, or take `reweight` away",
            ),
            ({"form": "flow"}, [0.0, 0.0, 5.0], "params.yaml: runs.x.reweight: the base's median loss is 0, so that"),
            (
                {"form": "flow"},
                [np.inf, 1.0],
                "params.yaml: runs.x.reweight: 1 of 2 losses of the base are not finite; measure in float32",
            ),
        ],
    )
    def test_losses_that_leave_nothing_to_weigh(self, options: dict[str, Any], losses: Any, message: str) -> None:
        with pytest.raises(UserError) as caught:
            weights(losses, [1] * len(losses), **options)
        assert str(caught.value).startswith(message)
