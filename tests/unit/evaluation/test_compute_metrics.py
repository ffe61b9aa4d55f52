from __future__ import annotations

import pytest

from knowtune.common.errors import UserError
from knowtune.evaluation.compute_metrics import compute_metrics, over_seeds, reads_answers, reads_whole_answers
from knowtune.evaluation.metrics import METRICS
from knowtune.evaluation.metrics.base import Judged
from tests.unit.evaluation.metrics.tables import EXAMPLES, KNOWLEDGE, TEXTS, emptied


def test_which_metrics_read_answers() -> None:
    long = ["token_f1", "contains", "final_number"]
    assert [name for name in METRICS if reads_answers([name])] == [*long, "pushed_away", "pushed_by"]
    assert [name for name in METRICS if reads_whole_answers([name])] == long
    assert not reads_whole_answers(["pushed_by", "known"])
    assert reads_answers(["known", "pushed_by"])
    assert not reads_answers([])


def test_metrics_by_name() -> None:
    assert compute_metrics(["forgotten", "reliability"], KNOWLEDGE) == {"forgotten": 0.4, "reliability": 3 / 4}


def test_a_metric_with_nothing_to_measure_is_left_out() -> None:
    judged = Judged(EXAMPLES[EXAMPLES["kind"] == "reliability"], TEXTS[:0])
    assert compute_metrics(list(METRICS), judged) == {"reliability": 0.75}


def test_an_unknown_metric() -> None:
    with pytest.raises(UserError, match=r"^no metric is called 'forgoten'; known: .*; did you mean 'forgotten'\?$"):
        compute_metrics(["forgoten"], KNOWLEDGE)


def test_over_seeds() -> None:
    found = over_seeds({"seed-0": {"known": 0.0, "locality": 1.0}, "seed-1": {"known": 1.0, "locality": 1.0}})
    assert found["known"] == {"mean": 0.5, "half_width": pytest.approx(12.7062047 / 2), "n": 2}
    assert found["locality"] == {"mean": 1.0, "half_width": 0.0, "n": 2}
    assert over_seeds({"seed-0": {"known": 0.25}}) == {"known": {"mean": 0.25, "half_width": None, "n": 1}}


def test_seeds_without_a_value_are_left_out_and_counted() -> None:
    found = over_seeds({"0": {}, "1": {"pearson": 0.5}, "2": {"pearson": 0.7, "spearman": 1.0}})
    assert found["pearson"]["mean"] == pytest.approx(0.6)
    assert (found["pearson"]["n"], found["pearson"]["without"]) == (2, 1)
    assert found["spearman"] == {"mean": 1.0, "half_width": None, "n": 1, "without": 2}
    assert over_seeds({"0": {}, "1": {}}) == {}


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_what_is_not_finite_is_left_out_and_said(loss: float, capsys: pytest.CaptureFixture[str]) -> None:
    judged = Judged(EXAMPLES, TEXTS.assign(loss=loss))
    assert compute_metrics(["text_loss", "known"], judged) == {"known": 0.5}
    assert capsys.readouterr().err == f"text_loss: got {loss}, which no table can hold; a dash stands for it\n"


def test_no_example_at_all() -> None:
    assert compute_metrics(list(METRICS), emptied(KNOWLEDGE)) == {}
