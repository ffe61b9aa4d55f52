from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.common.files import file_digest, read_json, write_rows
from knowtune.preserve.sources import KNOWN, SEQUENCES
from stages import select as stage
from tests.unit.helpers import fact_rows, with_distances
from tests.unit.stages.test_answers import settings

Run = Callable[..., Path]
DONE = "select spare: seed 0 is finished already"


def sequences(shift: int, num: int = 6) -> pd.DataFrame:
    """Give sequences that a base of few tokens could have written."""
    tokens = [[0, *range(5 + shift, 9 + shift + i)] for i in range(num)]
    return pd.DataFrame({"id": [f"self:{i}" for i in range(num)], "input_ids": tokens, "text": ""})


@pytest.fixture
def run(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Give a run of the stage on half of the facts: options and what the base wrote in, the out folder out."""
    monkeypatch.chdir(tmp_path)
    rehearsed = tmp_path / "rehearsed"

    def go(options: dict[str, Any], wrote: pd.DataFrame) -> Path:
        write_rows(tmp_path / "kept.jsonl", with_distances(fact_rows().head(12)))
        write_rows(tmp_path / "validation.jsonl", fact_rows().head(0))
        write_rows(rehearsed / KNOWN, fact_rows().tail(12))
        write_rows(rehearsed / SEQUENCES, wrote)
        write_rows(tmp_path / "texts.jsonl", pd.DataFrame({"id": ["t:0"], "text": ["Ada lives in Rome."]}))
        args = argparse.Namespace(
            name="spare", kept=tmp_path / "kept.jsonl", validation=tmp_path / "validation.jsonl", rehearsed=rehearsed,
            texts=tmp_path / "texts.jsonl", base=base.folder, out=tmp_path / "out",
        )  # fmt: skip
        chosen = {"filter": "clean", "strategy": "random", "options": {"num_parameters": 200, **options}}
        stage.run(args, settings(selections={"spare": chosen}))
        return tmp_path / "out"

    return go


def test_a_selection_without_protection_does_not_depend_on_what_the_base_wrote(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run({}, sequences(0))
    out = run({}, sequences(9))
    assert DONE in capsys.readouterr().err
    assert set(read_json(out / "summary.json")["seed-0"]) == {"num_rows", "num_parameters", "mass_kept"}


def test_what_is_protected_follows_what_the_base_wrote(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"protect": {"from": ["self"], "share": 0.9}}
    masks = []
    for shift in (0, 9):
        out = run(options, sequences(shift))
        captured = capsys.readouterr()
        assert DONE not in captured.err
        assert "seed 0: 90% of the entries are protected, with " in captured.out
        masks.append(file_digest(out / "seed-0/mask.safetensors"))
    assert masks[0] != masks[1]
    assert (
        read_json(out / "summary.json")["seed-0"]["protected"] == read_json(out / "seed-0/selection.json")["protected"]
    )
    run(options, sequences(9))
    assert DONE in capsys.readouterr().err


def test_rows_and_texts_are_read_too(run: Run) -> None:
    out = run({"protect": {"from": ["known", "text"]}}, sequences(0))
    assert read_json(out / "summary.json")["seed-0"]["protected"]["mass"] > 0.5


def test_a_base_that_wrote_nothing(run: Run) -> None:
    with pytest.raises(UserError, match="nothing to keep from 'self'"):
        run({"protect": {"from": ["self"]}}, sequences(0, 0))
