"""What judging one model gives: a result per evaluation example and text, on disk and beside the base's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from knowtune.common.errors import UserError
from knowtune.common.files import read_rows, read_tensors, write_rows
from knowtune.evaluation.metrics.base import Judged
from knowtune.evaluation.retention import noise_floor

if TYPE_CHECKING:
    import torch

    from knowtune.tasks.base import Task

TEXTS = "texts"  # what the noise floor of general text is called, beside the kinds of examples


@dataclass(frozen=True)
class Results:
    """What judging one model gave.

    Args:
        examples: id, fact, relation, kind, target, aliases, correct, loss; of a classifier predicted; where some
            have an old answer old_loss; where a metric reads answers also answer and distance; and where one reads the
            base on prompts prompt_kl and prompt_tokens.
        texts: id, num_tokens, and of a language model loss; where a metric reads the base kl.
        states: of a classifier, mean-pooled states of each text  # (text, hidden).
    """

    examples: pd.DataFrame
    texts: pd.DataFrame
    states: torch.Tensor | None

    def write(self, folder: Path) -> None:
        """Write examples.jsonl, texts.jsonl and states.safetensors (empty where there are none)."""
        from safetensors.torch import save_file

        write_rows(folder / "examples.jsonl", self.examples)
        write_rows(folder / "texts.jsonl", self.texts)
        save_file({} if self.states is None else {"states": self.states}, folder / "states.safetensors")

    @classmethod
    def read(cls, folder: Path) -> Results:
        """Read what `write` wrote."""
        texts = read_rows(folder / "texts.jsonl", ["id", "num_tokens"])
        return cls(
            read_rows(folder / "examples.jsonl"), texts, read_tensors(folder / "states.safetensors").get("states")
        )


def noise_floors(results: Results, again: Results, *, numeric: bool) -> dict[str, float]:
    """Return how much the same model differs from itself, of each kind of example and of the texts.

    Args:
        results: of the base.
        again: of the base at another batch size.
        numeric: whether answers are numbers, of which being right to the last digit says nothing.

    Returns:
        Kind -> share of examples whose verdict turned; of numbers, and of `texts`, the mean change of the loss
        without its sign, of texts over tokens. Texts are left out where a model has no loss on them.
    """
    loss = (results.examples["loss"] - again.examples["loss"]).abs()
    turned = results.examples["correct"].astype(bool) != again.examples["correct"].astype(bool)
    means = (loss if numeric else turned).groupby(results.examples["kind"], sort=False).mean()
    floors = {str(kind): float(mean) for kind, mean in means.items()}
    if len(results.texts) and "loss" in results.texts:
        floors[TEXTS] = noise_floor(results.texts, again.texts)
    return floors


def beside_base(own: Results, base: Results, task: Task) -> Judged:
    """Put the pristine base's result beside each example's and text's own.

    Raises:
        UserError: the base was judged on other examples, or did not answer them.
    """
    if (
        own.examples["id"].tolist() != base.examples["id"].tolist()
        or own.texts["id"].tolist() != base.texts["id"].tolist()
    ):
        raise UserError("evaluate: the baseline has other examples than this evaluation; run the baseline stage again")
    examples, texts = own.examples, own.texts
    examples = examples.assign(
        base_correct=base.examples["correct"].astype(bool), base_loss=base.examples["loss"].astype(float)
    )
    if "distance" in examples:
        if "distance" not in base.examples:
            raise UserError("evaluate: the baseline has no answers, which a metric reads; run the baseline stage again")
        distances = base.examples["distance"].astype(float)  # NaN comes back from a file as None
        examples = examples.assign(base_answer=base.examples["answer"], base_distance=distances)
    if "loss" in texts:
        texts = texts.assign(base_loss=base.texts["loss"].astype(float))
    states, base_states = (None if r.states is None else r.states.double().numpy() for r in (own, base))
    return Judged(examples, texts, states, base_states, labels=getattr(task, "labels", ()))
