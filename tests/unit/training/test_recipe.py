from __future__ import annotations

from dataclasses import fields

import pytest
from pydantic import ValidationError
from transformers import TrainingArguments

from knowtune.training.arguments import OURS
from knowtune.training.recipe import Recipe, ShortTraining
from tests.unit.helpers import RECIPE


def test_the_names_are_those_of_transformers() -> None:
    others = {"epochs", "batch_size", *OURS}
    assert set(Recipe.model_fields) - others <= {field.name for field in fields(TrainingArguments)}


def test_a_changed_recipe_is_checked() -> None:
    assert RECIPE.with_changes({"epochs": 3}) == RECIPE.model_copy(update={"epochs": 3})
    for wrong in ({"epoch": 3}, {"epochs": -1}, {"batch_size": 1.5}, {"lr_scheduler_type": "cosin"}):
        with pytest.raises(ValidationError):
            RECIPE.with_changes(wrong)


@pytest.mark.parametrize(
    ("steps", "num_rows", "batch_size"), [(1, 1, 1), (5, 24, 4), (7, 10, 4), (3, 5, 16), (60, 7, 3)]
)
def test_a_short_training_has_its_steps_whatever_the_rows(steps: int, num_rows: int, batch_size: int) -> None:
    from math import ceil

    recipe = ShortTraining(steps=steps, learning_rate=0.1, batch_size=batch_size).recipe(num_rows)
    assert ceil(recipe.epochs * ceil(num_rows / batch_size)) == steps
    assert (recipe.learning_rate, recipe.batch_size, recipe.lr_scheduler_type) == (0.1, batch_size, "constant")
