from __future__ import annotations

import pytest

from knowtune.common.errors import Problem, UserError, nearest, raise_gathered, unknown


def test_problem_reads_as_one_line() -> None:
    assert (
        str(Problem("runs.lora.options.rank", "0", "at least 1"))
        == "runs.lora.options.rank: got 0; allowed: at least 1"
    )


def test_problem_names_the_nearest() -> None:
    problem = Problem("runs.lora.options.rnk", "an unknown key", "alpha, rank", "rank")
    assert str(problem) == "runs.lora.options.rnk: got an unknown key; allowed: alpha, rank; did you mean 'rank'?"


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("lra", ["lora", "full"], "lora"),
        ("lora", ["lora", "full"], "lora"),
        ("zzzz", ["lora", "full"], ""),
        ("x", [], ""),
        ("retntion", ("retention", "relation"), "retention"),
    ],
)
def test_nearest(name: str, known: list[str], expected: str) -> None:
    assert nearest(name, known) == expected


def test_unknown_lists_the_known_in_order_and_the_nearest() -> None:
    error = unknown("filter", "claen", ["everything", "clean"])
    assert isinstance(error, UserError)
    assert str(error) == "no filter is called 'claen'; known: clean, everything; did you mean 'clean'?"


def test_unknown_without_a_like_name_gives_no_hint() -> None:
    assert (
        str(unknown("filter", "qqqq", ["everything", "clean"]))
        == "no filter is called 'qqqq'; known: clean, everything"
    )


def test_raise_gathered_is_quiet_without_problems() -> None:
    raise_gathered("params.yaml", [])


def test_raise_gathered_names_one_problem() -> None:
    with pytest.raises(UserError) as caught:
        raise_gathered("params.yaml", [Problem("a", "1", "2")])
    assert str(caught.value) == "params.yaml: 1 problem\n  a: got 1; allowed: 2"


def test_raise_gathered_names_every_problem_in_order() -> None:
    with pytest.raises(UserError) as caught:
        raise_gathered("params.yaml", [Problem("b", "1", "2"), Problem("a", "x", "y", "z")])
    assert str(caught.value) == (
        "params.yaml: 2 problems\n  b: got 1; allowed: 2\n  a: got x; allowed: y; did you mean 'z'?"
    )


def test_a_user_error_is_a_value_error() -> None:
    assert issubclass(UserError, ValueError)
