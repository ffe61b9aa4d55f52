from __future__ import annotations

import errno
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.methods.full import Full
from knowtune.methods.lora import Lora
from knowtune.training.fit import Fitted, fit, seed_everything
from knowtune.training.trainer import KnowledgeTrainer
from stages.runner.execute import is_disk_full
from tests.unit.helpers import (
    counted_calls,
    encoded,
    equal_states,
    fact_rows,
    recipe,
    small_disk,
    state,
    train,
    training,
)


@pytest.mark.parametrize(
    ("method", "stop"),
    [(Lora(rank=2, alpha=4.0, dropout=0.1), 5), (Lora(rank=2, alpha=4.0, dropout=0.1), 8), (Full(), 8)],
    ids=["lora in the first epoch", "lora in the second", "full in the second"],
)
def test_killed_and_resumed_gives_the_same_bits(base: Base, work: Path, method: Any, stop: int) -> None:
    options = {"epochs": 2, "batch_size": 4, "save_steps": 3, "lr_scheduler_type": "cosine"}
    whole = train(base, method, fact_rows(), work / "whole", **options)
    assert whole.num_steps == 12
    with (
        counted_calls(KnowledgeTrainer, "compute_loss", stop, KeyboardInterrupt()),  # type: ignore[arg-type]
        pytest.raises(KeyboardInterrupt),
    ):
        train(base, method, fact_rows(), work / "parts", **options)
    saved = sorted(p.name for p in (work / "parts" / "checkpoints").iterdir())
    assert saved == [f"checkpoint-{3 * ((stop - 1) // 3)}"]
    with counted_calls(KnowledgeTrainer, "compute_loss", 0, RuntimeError()) as calls:
        parts = train(base, method, fact_rows(), work / "parts", **options)
    assert calls == [12 - 3 * ((stop - 1) // 3)]
    assert parts.num_steps == 12
    assert equal_states(state(parts.model), state(whole.model))
    assert parts.curve == whole.curve


@pytest.mark.parametrize(("name", "stop"), [("training_step", 4), ("evaluate", 1), ("evaluate", 2)])
def test_a_checkpoint_at_the_end_of_an_epoch_has_its_validation(
    base: Base, tmp_path: Path, name: str, stop: int
) -> None:
    def learn(work: Path) -> Fitted:
        seed_everything(0)
        model = Lora(rank=2, alpha=4.0, dropout=0.1).attach(base.model())
        made = recipe(epochs=2, batch_size=4, save_steps=1)
        rows, held = encoded(base, fact_rows().head(12)), encoded(base, fact_rows().tail(4).reset_index(drop=True))
        return fit(model, training(rows, work, made, validation=held))

    whole = learn(tmp_path / "whole")
    assert [point["step"] for point in whole.curve if point["split"] == "validation"] == [3, 6]
    with (
        counted_calls(KnowledgeTrainer, name, stop, KeyboardInterrupt()),  # type: ignore[arg-type]
        pytest.raises(KeyboardInterrupt),
    ):
        learn(tmp_path / "parts")
    parts = learn(tmp_path / "parts")
    assert equal_states(state(parts.model), state(whole.model))
    assert parts.curve == whole.curve


@pytest.mark.parametrize("broken", ["no state", "half a state", "an empty folder"])
def test_a_checkpoint_that_was_not_written_to_its_end_is_dropped(
    base: Base, work: Path, broken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    method, options = Lora(rank=2, alpha=4.0, dropout=0.1), {"batch_size": 4, "save_steps": 2}
    whole = train(base, method, fact_rows(), work / "whole", **options)
    place = work / "parts" / "checkpoints"
    with (
        counted_calls(KnowledgeTrainer, "compute_loss", 4, KeyboardInterrupt()),  # type: ignore[arg-type]
        pytest.raises(KeyboardInterrupt),
    ):
        train(base, method, fact_rows(), work / "parts", **options)
    if broken == "an empty folder":
        (place / "checkpoint-4").mkdir()
    else:
        shutil.copytree(place / "checkpoint-2", place / "checkpoint-4")
        written = place / "checkpoint-4" / "trainer_state.json"
        written.write_text(written.read_text()[:40])
        if broken == "no state":
            written.unlink()
    with counted_calls(KnowledgeTrainer, "compute_loss", 0, RuntimeError()) as calls:
        parts = train(base, method, fact_rows(), work / "parts", **options)
    assert calls == [4]
    assert "training: goes on from checkpoint-2\n" in capsys.readouterr().err
    assert equal_states(state(parts.model), state(whole.model))
    assert parts.curve == whole.curve


def test_a_broken_checkpoint_alone_is_a_fresh_start(base: Base, work: Path) -> None:
    whole = train(base, Full(), fact_rows().head(8), work / "whole")
    (work / "parts" / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    parts = train(base, Full(), fact_rows().head(8), work / "parts")
    assert equal_states(state(parts.model), state(whole.model))


def test_a_full_disk_in_the_middle_loses_nothing(base: Base, work: Path, tmp_path: Path) -> None:
    options = {"batch_size": 4, "save_steps": 2, "lr_scheduler_type": "cosine"}
    whole = train(base, Full(), fact_rows(), work, **options)
    size = sum(p.stat().st_size for p in (work / "checkpoints" / "checkpoint-6").iterdir())
    disk = tmp_path / "disk"
    with small_disk(disk, str(size * 3 // 2)) as mounted:
        full = OSError(errno.ENOSPC, "No space left on device")  # where nobody may mount: the second one's optimizer
        fail_at = 0 if mounted else 5
        with counted_calls(torch, "save", fail_at, full), pytest.raises(Exception) as caught:
            train(base, Full(), fact_rows(), disk, **options)
        assert is_disk_full(caught.value)
        assert sorted(p.name for p in (disk / "checkpoints").iterdir()) == ["checkpoint-2", "checkpoint-4"]
        assert not (disk / "checkpoints" / "checkpoint-4" / "trainer_state.json").exists()
        if mounted:
            subprocess.run(["mount", "-o", f"remount,size={4 * size}", str(disk)], check=True)
        with counted_calls(KnowledgeTrainer, "compute_loss", 0, RuntimeError()) as calls:
            parts = train(base, Full(), fact_rows(), disk, **options)
    assert calls == [4]
    assert equal_states(state(parts.model), state(whole.model))
    assert parts.curve == whole.curve
