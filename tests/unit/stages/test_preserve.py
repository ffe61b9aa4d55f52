from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from knowtune.checkpoints.base import Base
from knowtune.common.files import write_rows
from knowtune.gradients import scorer
from knowtune.preserve import teacher_cache
from knowtune.preserve.sources import KNOWN, SEQUENCES
from stages import preserve as stage
from tests.unit.helpers import fact_rows
from tests.unit.stages.test_answers import settings
from tests.unit.stages.test_select import sequences

Run = Callable[..., dict[str, bytes]]
CACHE = {"on": "self", "cache": "top_k", "top_k": 4}
EWC = {"form": "ewc", "weight": 1.0}


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note each pass over sequences: for Fisher information, for a teacher's cache."""
    noted: list[str] = []

    def note(module: Any, name: str, what: str) -> None:
        plain = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args: (noted.append(what), plain(*args))[1])

    note(scorer, "save_partial", "fisher")
    note(teacher_cache, "_write_batch", "cache")
    return noted


@pytest.fixture
def run(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Give a run of the stage: what is kept, and how many training rows there are, in; the files written out."""
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rehearsed" / KNOWN, fact_rows().tail(12))
    write_rows(tmp_path / "rehearsed" / SEQUENCES, sequences(0))
    write_rows(tmp_path / "texts.jsonl", pd.DataFrame({"id": ["t:0"], "text": ["Ada lives in Rome."]}))

    def go(preserve: dict[str, Any], num_rows: int = 6) -> dict[str, bytes]:
        write_rows(tmp_path / "train.jsonl", fact_rows().head(num_rows))
        args = argparse.Namespace(
            name="lora", train=tmp_path / "train.jsonl", texts=tmp_path / "texts.jsonl",
            rehearsed=tmp_path / "rehearsed", base=base.folder, out=tmp_path / "out",
        )  # fmt: skip
        lora = {"selection": "clean", "method": "lora", "options": {"rank": 2, "alpha": 4}, "seeds": [0]}
        stage.run(args, settings(runs={"lora": {**lora, "preserve": preserve}}))
        return {str(path.relative_to(args.out)): path.read_bytes() for path in args.out.rglob("*") if path.is_file()}

    return go


def test_weights_shares_and_rows_that_are_not_read_run_the_base_for_nothing(run: Run, passes: list[str]) -> None:
    first = run({"distill": CACHE, "anchor": EWC})
    assert set(passes) == {"fisher", "cache"}
    passes.clear()
    changed = {"share": 1.0, "weight": 3.0, "direction": "reverse"}
    again = run({"distill": {**CACHE, **changed}, "anchor": {**EWC, "weight": 2.0}, "replay": {}}, num_rows=9)
    assert passes == []
    assert {name: again[name] for name in first if name != "card.json"} == {
        name: content for name, content in first.items() if name != "card.json"
    }


@pytest.mark.parametrize(
    "options",
    [
        {"distill": {**CACHE, "top_k": 3}, "anchor": EWC},
        {"distill": {**CACHE, "temperature": 2.0}, "anchor": EWC},
        {"distill": CACHE, "anchor": {**EWC, "samples": 2}},
        {"distill": CACHE, "anchor": {**EWC, "from": "known"}},
        {"distill": {**CACHE, "on": ["self", "prompts"]}, "anchor": EWC},
    ],
)
def test_what_decides_runs_it_again(options: dict[str, Any], run: Run, passes: list[str]) -> None:
    run({"distill": CACHE, "anchor": EWC})
    passes.clear()
    run(options)
    assert set(passes) == {"fisher", "cache"}


def test_training_rows_decide_where_their_prompts_are_read(run: Run, passes: list[str]) -> None:
    options = {"distill": {**CACHE, "on": "prompts"}}
    run(options)
    passes.clear()
    run(options, num_rows=9)
    assert passes
