from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from knowtune.text.encoded import Encoded
from knowtune.training.arguments import OURS, _validation_batch, training_arguments
from knowtune.training.dataset import Rows
from tests.unit.helpers import COMPUTE, RECIPE, recipe


def rows_of(*lengths: int) -> Rows:
    return Rows([Encoded.running([3] * length) for length in lengths], [str(i) for i in range(len(lengths))])


def made(folder: Path, *, validates: bool = True, resumes: bool = True, **changes: Any) -> Any:
    rows = rows_of(*[300] * 60) if validates else None
    return training_arguments(recipe(**changes), COMPUTE, folder, seed=5, validation=rows, resumes=resumes)


def test_a_recipe_is_handed_through(tmp_path: Path) -> None:
    changes = {"gradient_accumulation_steps": 3, "warmup_steps": 7, "weight_decay": 0.25, "max_grad_norm": 0.5}
    arguments = made(tmp_path, epochs=2.5, batch_size=6, **changes)
    given = RECIPE.with_changes({**changes, "logging_steps": 1}).model_dump(exclude={"epochs", "batch_size", *OURS})
    assert {key: getattr(arguments, key) for key in given} == given
    assert (arguments.num_train_epochs, arguments.per_device_train_batch_size) == (2.5, 6)
    assert arguments.per_device_eval_batch_size == 6
    assert (arguments.seed, arguments.data_seed, arguments.n_gpu) == (5, 5, 0)


@pytest.mark.parametrize(("save", "log", "expected"), [(100, 20, 100), (50, 20, 60), (1, 4, 4), (3, 1, 3)])
def test_a_checkpoint_falls_where_a_loss_is_logged(save: int, log: int, expected: int, tmp_path: Path) -> None:
    assert made(tmp_path, save_steps=save, logging_steps=log).save_steps == expected


@pytest.mark.parametrize(
    ("best", "validates", "resumes", "expected"),
    [
        (False, True, True, ("steps", "steps", "epoch")),
        (False, False, True, ("steps", "steps", "no")),
        (False, True, False, ("no", "steps", "epoch")),
        (True, True, False, ("epoch", "epoch", "epoch")),
    ],
)
def test_when_it_saves_logs_and_validates(
    best: bool, validates: bool, resumes: bool, expected: tuple[str, str, str], tmp_path: Path
) -> None:
    arguments = made(tmp_path, validates=validates, resumes=resumes, load_best_model_at_end=best)
    strategies = (arguments.save_strategy, arguments.logging_strategy, arguments.eval_strategy)
    assert tuple(strategy.value for strategy in strategies) == expected


@pytest.mark.parametrize(
    ("lengths", "processes", "expected"),
    [
        ([20] * 63 + [32], 1, 32),  # as many as the tokens allow that a batch may have in any case
        ([600] * 100, 1, 6),  # long ones as in training
        ([20] * 10, 1, 10),
        ([32] * 33, 1, 17),  # not 32 and 1
        ([20] * 21, 2, 11),  # else one process would validate all, and the other none
        ([32] * 70, 2, 18),  # not 32, 32 and 6, of which one process has the most
        ([20], 4, 1),
    ],
)
def test_short_validation_rows_are_read_many_at_a_time(lengths: list[int], processes: int, expected: int) -> None:
    assert _validation_batch(recipe(batch_size=6), rows_of(*lengths), processes) == expected
