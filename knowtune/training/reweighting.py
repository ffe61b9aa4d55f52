"""The weights of the rows that a model is trained on, and their measuring again with the model as it is by then.

Formulas and sources are in `training.weights`. Distances are those of `knowtune.training.distances`: of the pristine
base at the start, then, every `refresh_steps` optimiser steps, of the model that is being trained. Losses are the
pristine base's and stay. Measuring changes nothing but weights.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import reduce
from transformers import TrainerCallback

from knowtune.common.errors import UserError
from knowtune.models.hidden_states import evaluating
from knowtune.tasks.answers import Decoding
from knowtune.training.distances import AnswerDistances, Measure, TargetLosses, TokenDistances
from knowtune.training.weights import Weighting

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

    from knowtune.checkpoints.base import Base
    from knowtune.semantics.representations.base import Representation
    from knowtune.training.dataset import Rows

STATE = "reweighting.safetensors"  # in a checkpoint: weights, distances, and the step at which they were measured


@dataclass(frozen=True)
class Plan:
    """How a run weighs its rows.

    Args:
        weighting: options.
        representation: by which answers and targets are compared when they are measured again; None where the base's
            losses are weighed by.
        max_new_tokens: of an answer, then.
        extra_tokens: see `knowtune.semantics.distance`.
        where: the key in params.yaml, for messages.
    """

    weighting: Weighting
    representation: Representation | None
    max_new_tokens: int
    extra_tokens: int
    where: str


class Reweighting(TrainerCallback):
    """Sets the weights of rows, measures again during training, and keeps both in checkpoints."""

    def __init__(
        self, plan: Plan, rows: Rows, distances: np.ndarray[Any, Any], measure: Measure | None, label: str
    ) -> None:
        """Weigh the rows.

        Args:
            plan: how.
            rows: their weights are set here.
            distances: of each unit, or its loss  # (units,).
            measure: how the units' distances are measured again; None where they are not.
            label: what lines of progress call the training.

        Raises:
            UserError: a distance is missing, or losses by which nothing can be weighed.
        """
        self.weighting, self.where, self.label = plan.weighting, plan.where, label
        self.rows, self.measure = rows, measure
        by_token = self.weighting.granularity == "token"
        self.counts = np.ones(int(rows.counts.sum()), dtype=int) if by_token else rows.counts.numpy()  # (units,)
        self.measured_at = 0
        self._weigh(distances)
        if bool((rows.weights == 1).all()):
            print(f"{label}: {self.where} has no effect by now: {self._why_all_alike()}", file=sys.stderr)

    def _why_all_alike(self) -> str:
        """Say why all weights are 1."""
        if self.weighting.by_loss:
            return "all losses are the same" if self.weighting.form == "flow" else "no token is above the threshold"
        return "alpha is 0" if self.weighting.alpha == 0 else "all distances are the same"

    def _weigh(self, distances: np.ndarray[Any, Any]) -> None:
        """Turn distances into the rows' weights."""
        self.distances = distances
        units = self.weighting.weights(distances, self.counts, self.where)
        self.rows.weights = torch.from_numpy(np.repeat(units, self.counts)).float()  # (target tokens,)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Print where training is too short for a second measurement."""
        steps = self.weighting.refresh_steps
        if steps is not None and steps >= state.max_steps:
            effect = f"{steps} has no effect: training has {state.max_steps} steps"
            print(f"{self.label}: {self.where}.refresh_steps: {effect}", file=sys.stderr)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Measure again when it is time; the processes share the batches."""
        steps, step = self.weighting.refresh_steps, state.global_step
        if self.measure is None or steps is None or step % steps or step >= state.max_steps:
            return
        before = self.distances.mean()
        with evaluating(model):
            share = self.measure(model, args.process_index, args.world_size).to(args.device)
        self._weigh(reduce(share, "sum").cpu().numpy())
        self.measured_at = step
        means = f"mean distance {self.distances.mean():.4f}, was {before:.4f}"
        print(f"{self.label}: weights measured again at step {step}: {means}", file=sys.stderr, flush=True)

    def save(self, checkpoint: Path) -> None:
        """Write what training needs to go on with the same weights."""
        from safetensors.torch import save_file

        step = torch.tensor(self.measured_at)
        tensors = {"weights": self.rows.weights, "distances": torch.from_numpy(self.distances), "step": step}
        save_file(tensors, checkpoint / STATE)

    def read(self, checkpoint: Path) -> dict[str, torch.Tensor]:
        """Read what `save` wrote.

        Raises:
            OSError: there is none; a broken file is a SafetensorError.
        """
        from safetensors.torch import load_file

        saved: dict[str, torch.Tensor] = load_file(checkpoint / STATE)
        return saved

    def load(self, checkpoint: Path) -> None:
        """Take the weights that a checkpoint was made with."""
        saved = self.read(checkpoint)
        self.rows.weights, self.distances = saved["weights"], saved["distances"].numpy()
        self.measured_at = int(saved["step"])

    def summary(self) -> dict[str, Any]:
        """Summarise the weights in plain numbers.

        Returns:
            `num_units` rows or tokens, `min` and `max` of their weights, `clipped` (a share), `effective_units`
            ((sum w)^2 / sum w^2), and `measured_at`, the step.
        """
        units = self.weighting.weights(self.distances, self.counts, self.where)
        return {
            "num_units": len(units),
            "min": float(units.min()),
            "max": float(units.max()),
            "clipped": self.weighting.num_clipped(self.distances) / len(units),
            "effective_units": float(units.sum() ** 2 / (units**2).sum()),
            "measured_at": self.measured_at,
        }

    def table(self) -> pd.DataFrame:
        """Give each row's id, distance (or loss) and weight; of tokens the means, and lists of one number per token."""
        import pandas as pd

        by_token = np.repeat(self.distances, self.counts), self.rows.weights.double().numpy()
        lists = [np.split(numbers, self.rows.starts[1:].numpy()) for numbers in by_token]
        means = [[float(part.mean()) for part in parts] for parts in lists]
        table = pd.DataFrame({"id": list(self.rows.ids), self.weighting.measured: means[0], "weight": means[1]})
        if self.weighting.granularity == "token":
            names = {"loss": "token_losses", "distance": "token_distances"}[self.weighting.measured], "token_weights"
            table[names[0]], table[names[1]] = ([p.tolist() for p in parts] for parts in lists)
        return table


def open_reweighting(
    plan: Plan, table: pd.DataFrame, rows: Rows, base: Base, tokenizer: PreTrainedTokenizerBase, label: str
) -> Reweighting:
    """Weigh rows by their distances to a pristine base, or its losses, and prepare to measure again.

    Loads the base where it is needed: for tokens, losses, or a refresh. Do so before the training's seed is set.

    Args:
        plan: how.
        table: the rows, with `distance` where rows are weighed.
        rows: the same as tokens; their weights are set.
        base: the pristine one.
        tokenizer: the base's.
        label: what lines of progress call the training.

    Raises:
        UserError: a row has no distance, the representation lacks something, or the base's head is new, so that its
            losses say nothing.
    """
    weighting, name = plan.weighting, f"{label}: distances"
    if weighting.by_loss:
        return Reweighting(plan, rows, _base_losses(plan, rows, base, label), None, label)
    if weighting.granularity == "token":
        model: Any = base.model()
        embeddings = model.get_input_embeddings().weight.detach().cpu()  # (vocabulary, width)
        by_token = TokenDistances(rows, base.task, embeddings, weighting.batch_size, name)
        return Reweighting(plan, rows, by_token(model, 0, 1).numpy(), by_token, label)
    distances = table.reindex(columns=["distance"])["distance"].to_numpy(dtype=float, copy=True)
    if weighting.refresh_steps is None:
        return Reweighting(plan, rows, distances, None, label)
    assert plan.representation is not None  # only the forms by loss go without
    vectors = plan.representation.open(base.model(), tokenizer)
    decoding = Decoding(weighting.batch_size, plan.max_new_tokens, plan.extra_tokens)
    by_answer = AnswerDistances(table, base.task, tokenizer, vectors, decoding, name)
    return Reweighting(plan, rows, distances, by_answer, label)


def _base_losses(plan: Plan, rows: Rows, base: Base, label: str) -> np.ndarray[Any, Any]:
    """Measure the pristine base's loss of each unit: of target tokens, or of rows their mean  # (units,), float64."""
    model: Any = base.model()
    new = list(getattr(model, "new_weights", []))
    if new:
        got = f"weights by the base's loss, and its head is new ({', '.join(new[:3])}), so that it guesses at random"
        raise UserError(f"params.yaml: {plan.where}: {got}. Take `reweight` away, or give a base with a trained head")
    losses = TargetLosses(rows, base.task, plan.weighting.batch_size, f"{label}: losses")(model, 0, 1).numpy()
    if plan.weighting.granularity == "token":
        return losses
    means: np.ndarray[Any, Any] = np.add.reduceat(losses, rows.starts.numpy()) / rows.counts.numpy()
    return means
