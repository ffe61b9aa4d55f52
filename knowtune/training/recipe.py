"""How to train: the settings of a run's training, and of a short one within a selection."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from knowtune.common.bounds import Count, Natural, Positive, Rate


class Recipe(BaseModel):
    """How to train. `training` in params.yaml is one, and a run changes keys of it.

    The names are those of `transformers.TrainingArguments`, which takes them as they are; `epochs` is its
    `num_train_epochs`, `batch_size` its `per_device_train_batch_size`. Lengths are in optimiser steps, `batch_size` in
    rows per forward pass and process. Two are ours: of the validation rows, `max_validation` are read after each epoch,
    at equal distances in their table (None: all); rows of like length meet among `length_window` batches.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    epochs: Annotated[Positive, Field(le=1e6)]
    batch_size: Count
    gradient_accumulation_steps: Count
    learning_rate: Rate
    lr_scheduler_type: Literal["constant", "constant_with_warmup", "linear", "cosine"]
    warmup_steps: Natural
    weight_decay: float = Field(ge=0, lt=1)
    max_grad_norm: Positive
    logging_steps: Count
    save_steps: Count
    load_best_model_at_end: bool
    max_validation: Count | None = None
    length_window: Count = 4

    def with_changes(self, changes: Mapping[str, Any]) -> Recipe:
        """Give this recipe with some keys changed.

        Raises:
            ValidationError: a key or value that a recipe does not have.
        """
        return Recipe.model_validate({**self.model_dump(), **changes})


class ShortTraining(BaseModel):
    """So many optimiser steps at a constant rate, as a selection trains before it decides."""

    model_config = Recipe.model_config

    steps: Count
    learning_rate: Rate
    batch_size: Count

    def recipe(self, num_rows: int) -> Recipe:
        """Make the recipe for so many rows."""
        return Recipe(
            epochs=(self.steps - 0.5) / math.ceil(num_rows / self.batch_size),  # the Trainer rounds up to a whole step
            batch_size=self.batch_size,
            gradient_accumulation_steps=1,
            learning_rate=self.learning_rate,
            lr_scheduler_type="constant",
            warmup_steps=0,
            weight_decay=0.0,
            max_grad_norm=1.0,
            logging_steps=20,
            save_steps=100,
            load_best_model_at_end=False,
        )
