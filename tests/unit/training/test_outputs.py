from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.training.outputs import (
    MAX_TOKENS,
    NUM_OUTPUTS,
    NUM_POSITIONS,
    NUM_ROWS,
    RECORD,
    record_outputs,
    recorded_difference,
)
from tests.unit.helpers import TASK, encoded, fact_rows, review_rows, row, table


def test_a_model_equals_its_own_record(base: Base, tmp_path: Path) -> None:
    record_outputs(base.model(), TASK, encoded(base, fact_rows()).rows, tmp_path)
    difference, scale = recorded_difference(base.model(), tmp_path)
    assert difference == 0
    assert scale > 1
    saved = load_file(tmp_path / RECORD)
    assert saved["inputs.input_ids"].shape[0] == NUM_ROWS
    lengths = saved["inputs.attention_mask"].sum(1).clamp(max=NUM_POSITIONS)
    assert saved["logits"].shape == (int(lengths.sum()), len(saved["outputs"]))
    assert NUM_OUTPUTS <= len(saved["outputs"]) <= NUM_OUTPUTS + NUM_ROWS * NUM_POSITIONS
    learned = {token for row in encoded(base, fact_rows().head(1)).rows for token in row.labels if token >= 0}
    assert learned <= {*saved["outputs"].tolist()}


@pytest.mark.parametrize("what", ["an output that is recorded", "any other output"])
def test_a_difference_is_found_and_measured(what: str, base: Base, tmp_path: Path) -> None:
    record_outputs(base.model(), TASK, encoded(base, fact_rows()).rows, tmp_path)
    recorded = set(load_file(tmp_path / RECORD)["outputs"].tolist())
    other: Any = base.model()
    shift = torch.zeros(320)
    if what == "an output that is recorded":
        shift[max(recorded)] = 1.5
    else:
        shift[next(i for i in range(320) if i not in recorded)] = 30.0  # it then has all the mass, which logsumexp sees
    other.lm_head.register_forward_hook(lambda _, args, out: out + shift)
    difference, _ = recorded_difference(other, tmp_path)
    assert difference == pytest.approx(1.5, abs=1e-4) if shift.max() < 2 else difference > 10


def test_a_model_that_says_nan_differs_by_nan(base: Base, tmp_path: Path) -> None:
    record_outputs(base.model(), TASK, encoded(base, fact_rows()).rows, tmp_path)
    broken: Any = base.model()
    broken.lm_head.register_forward_hook(lambda _, args, out: out * torch.nan)
    assert not recorded_difference(broken, tmp_path)[0] <= 1e9


def test_the_record_of_a_classifier(encoder: Base, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model: Any = encoder.model()
    record_outputs(model, encoder.task, encoded(encoder, review_rows()).rows, tmp_path)
    saved = load_file(tmp_path / RECORD)
    assert saved["outputs"].tolist() == [0, 1]
    assert "inputs.token_type_ids" in saved
    assert recorded_difference(model, tmp_path)[0] == 0
    model.classifier.bias.data[1] += 0.25
    assert recorded_difference(model, tmp_path)[0] == pytest.approx(0.25, abs=1e-5)


def test_long_rows_are_cut_and_the_file_stays_small(base: Base, tmp_path: Path) -> None:
    long = table(*(row(f"r{i}", "qz" * 200, "Rome") for i in range(40)))
    tokens = base.task.encode(base.tokenizer(), long)
    assert all(len(each.input_ids) > MAX_TOKENS for each in tokens)
    record_outputs(base.model(), TASK, tokens, tmp_path)
    assert load_file(tmp_path / RECORD)["inputs.input_ids"].shape == (NUM_ROWS, MAX_TOKENS)
    assert (tmp_path / RECORD).stat().st_size < 100_000


def test_short_rows_are_preferred_and_one_is_enough(base: Base, tmp_path: Path) -> None:
    rows = table(row("long", "qz" * 200, "Rome"), row("short", "Ada lives in ", "Rome"))
    record_outputs(base.model(), TASK, base.task.encode(base.tokenizer(), rows), tmp_path)
    saved = load_file(tmp_path / RECORD)
    assert saved["inputs.input_ids"].shape[0] == 1
    assert recorded_difference(base.model(), tmp_path)[0] == 0


def test_twice_equal_bytes(base: Base, tmp_path: Path) -> None:
    for name in ("a", "b"):
        record_outputs(base.model(), TASK, encoded(base, fact_rows()).rows, tmp_path / name)
    assert (tmp_path / "a" / RECORD).read_bytes() == (tmp_path / "b" / RECORD).read_bytes()


@pytest.mark.parametrize("fault", ["missing", "cut short", "another file", "another model"])
def test_what_is_no_record_is_refused(fault: str, base: Base, tmp_path: Path) -> None:
    record_outputs(base.model(), TASK, encoded(base, fact_rows()).rows, tmp_path)
    path = tmp_path / RECORD
    if fault == "missing":
        path.unlink()
    elif fault == "cut short":
        path.write_bytes(path.read_bytes()[:-7])
    elif fault == "another file":
        save_file({"x": torch.zeros(1)}, path)
    else:
        saved = load_file(path)
        save_file({**saved, "outputs": saved["outputs"] + 300}, path)
    messages = {
        "missing": "missing; ",
        "cut short": "damaged (",
        "another file": "of another shape, no outputs, logits, logsumexp",
        "another model": "a record of another model; ",
    }
    with pytest.raises(UserError) as caught:
        recorded_difference(base.model(), tmp_path)
    assert str(caught.value).startswith(f"{path}: {messages[fault]}")
    assert "run the train stage again" in str(caught.value)
