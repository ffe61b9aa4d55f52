from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.core.params import load_params, write_yaml
from tests.unit.stages.core.test_params import DEFAULT, classifies, message

GOOD: dict[str, Any] = {
    "run": "lora", "learned": "generalisation", "bounds": {"forgotten": 0.1},
    "rejects": {"planted": 0.1, "unreviewed": 0.0},
}  # fmt: skip
NUMBERS = {"kind": "text", "path": "t.jsonl", "column": "text"}


def promote(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda params: params.update(promote={**GOOD, **changes})


def best(**rule: Any) -> Callable[[dict[str, Any]], object]:
    return promote(run=None, best=rule)


CASES: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (promote(run="lorra"), "promote.run: got 'lorra'; allowed: "),
    (promote(run=None), "promote: got neither run nor best; allowed: one of them: `run`, or the rule `best`"),
    (promote(best={"by": "forgotten"}), "promote: got run and best; allowed: one of them: `run`, or the rule `best`"),
    (best(by="forgoten"), "promote.best.by: got 'forgoten'; allowed: "),
    (best(by="forgotten", of=["lora", "x"]), "promote.best.of[1]: got 'x'; allowed: "),
    (best(by="forgotten", of=["lora", "lora"]), "promote.best.of: got ['lora', 'lora']; allowed: each once"),
    (promote(learned="locality"), "promote.learned: got 'locality'; allowed: generalisation, reliability"),
    (promote(bounds={"drift": 0.1}), "promote.bounds.drift: got 'drift'; allowed: "),
    (promote(bounds={"forgotten": 15.0}), "promote.bounds.forgotten: got 15.0; allowed: a share, from 0 to 1"),
    (promote(rejects={"planted": 2.0, "unreviewed": 0.0}), "promote.rejects.planted: got 2.0; allowed: less than or"),
    (
        promote(bound={}),
        "promote.bound: got an unknown key; allowed: best, bounds, keep, learned, model, rejects, run; did you mean",
    ),
    (promote(model="a/b"), "promote.model: got 'a/b'; allowed: "),
    (
        lambda p: promote()(p) or p["evaluate"].update(retention={"stories": NUMBERS}),
        "promote.bounds.stories: got nothing; allowed: how much worse than the base a model may be there; every set",
    ),
    (lambda p: classifies(p) or promote()(p), "promote.learned: got 'generalisation'; allowed: accuracy"),
]


@pytest.mark.parametrize(("edit", "expected"), CASES)
def test_every_fault_has_its_line(edit: Callable[[dict[str, Any]], object], expected: str, tmp_path: Path) -> None:
    lines = message(tmp_path, edit)
    assert [line for line in lines if expected in line], lines


def test_a_run_or_a_rule_is_good_and_the_section_may_be_left_out(tmp_path: Path) -> None:
    assert "promote" not in DEFAULT
    for section in (GOOD, {**GOOD, "run": None, "best": {"by": "forgotten"}}, None):
        write_yaml(tmp_path / "params.yaml", {**DEFAULT, "promote": section})
        found = load_params(tmp_path / "params.yaml").promote
        assert (found is None) == (section is None)
        assert found is None or (found.model, found.rejects.reviewed) == ("knowtune", [])
