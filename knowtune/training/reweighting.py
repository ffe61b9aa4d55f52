"""The weights of the rows that a model is trained on, and their measuring again with the model as it is by then.

A reconstruction after *Semantic are Beacons* (Wang, Li, arXiv 2405.18292); the formulas are in
`knowtune.training.weights`.
A *unit* is what has a distance: a row, or (`granularity: token`) each of its learned tokens.

    row      d_i  = distance of the model's greedy answer to the target         as `knowtune.semantics.distance`
    measures it
    token    d_it = 1 - cos(E[argmax p(. | x_i, y_i,<t)], E[y_it])              0 where the model says the right one

E        input embeddings of the pristine base  (vocabulary, width); vectors of answers are the pristine base's too
p        the pristine base at the start, then, every `refresh_steps` optimiser steps, the model that is being trained

Measuring draws no random number and leaves the modes of all modules as they were, so it changes nothing but weights.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import reduce
from transformers import TrainerCallback

from knowtune.common.progress import progress
from knowtune.models.hidden_states import evaluating
from knowtune.semantics.distance import cosine_distance
from knowtune.tasks.answers import Decoding, answer_distances, answer_rows
from knowtune.text.batches import batches_by_length
from knowtune.training.weights import Weighting

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

    from knowtune.checkpoints.base import Base
    from knowtune.semantics.distance import Vectors
    from knowtune.semantics.representations.base import Representation
    from knowtune.tasks.base import Task
    from knowtune.training.dataset import Rows

STATE = "reweighting.safetensors"  # in a checkpoint: weights, distances, and the step at which they were measured
Measure = Callable[[torch.nn.Module, int, int], torch.Tensor]


@dataclass(frozen=True)
class Plan:
    """How a run weighs its rows.

    Args:
        weighting: options.
        representation: by which answers and targets are compared when they are measured again.
        max_new_tokens: of an answer, then.
        extra_tokens: see `knowtune.semantics.distance`.
        where: the key in params.yaml, for messages.
    """

    weighting: Weighting
    representation: Representation
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
            distances: of each unit  # (units,).
            measure: takes a model, the number of this process and how many there are, and returns the units' distances,
                0 outside of this process's share  # (units,), float64, CPU. None where none is measured again.
            label: what progress lines call the training.

        Raises:
            UserError: a distance is missing.
        """
        self.weighting, self.where, self.rows, self.measure, self.label = (
            plan.weighting,
            plan.where,
            rows,
            measure,
            label,
        )
        by_token = self.weighting.granularity == "token"
        self.counts = np.ones(int(rows.counts.sum()), dtype=int) if by_token else rows.counts.numpy()  # (units,)
        self.measured_at = 0
        self._weigh(distances)
        if bool((rows.weights == 1).all()):
            why = "alpha is 0" if self.weighting.alpha == 0 else "all distances are the same"
            print(f"{label}: {self.where} has no effect by now: {why}", file=sys.stderr)

    def _weigh(self, distances: np.ndarray[Any, Any]) -> None:
        """Turn distances into the rows' weights."""
        self.distances = distances
        units = self.weighting.weights(distances, self.counts, self.where)
        self.rows.weights = torch.from_numpy(np.repeat(units, self.counts)).float()  # (items,)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say so where training is too short for a second measurement."""
        steps = self.weighting.refresh_steps
        if steps is not None and steps >= state.max_steps:
            told = f"{self.where}.refresh_steps: {steps} has no effect: training has {state.max_steps} steps"
            print(f"{self.label}: {told}", file=sys.stderr)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Measure again when it is time; the processes share the batches."""
        steps, step = self.weighting.refresh_steps, state.global_step
        if self.measure is None or steps is None or step % steps or step >= state.max_steps:
            return
        before = self.distances.mean()
        with evaluating(model):
            found = self.measure(model, args.process_index, args.world_size).to(args.device)
        self._weigh(reduce(found, "sum").cpu().numpy())
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

        found: dict[str, torch.Tensor] = load_file(checkpoint / STATE)
        return found

    def load(self, checkpoint: Path) -> None:
        """Take the weights that a checkpoint was made with."""
        found = self.read(checkpoint)
        self.rows.weights, self.distances = found["weights"], found["distances"].numpy()
        self.measured_at = int(found["step"])

    def summary(self) -> dict[str, Any]:
        """Tell what the weights are like, in plain numbers.

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
        """Give each row's id, distance and weight; of tokens the means, and lists with one number per learned token."""
        import pandas as pd

        items = np.repeat(self.distances, self.counts), self.rows.weights.double().numpy()
        lists = [np.split(numbers, self.rows.starts[1:].numpy()) for numbers in items]
        means = [[float(part.mean()) for part in parts] for parts in lists]
        table = pd.DataFrame({"id": list(self.rows.ids), "distance": means[0], "weight": means[1]})
        if self.weighting.granularity == "token":
            table["token_distances"], table["token_weights"] = ([p.tolist() for p in parts] for parts in lists)
        return table


def open_reweighting(
    plan: Plan, table: pd.DataFrame, rows: Rows, base: Base, tokenizer: PreTrainedTokenizerBase, label: str
) -> Reweighting:
    """Weigh rows by their distances to a pristine base, and prepare to measure again.

    Loads the base where it is needed: for tokens, or for a refresh. Do so before the training's seed is set.

    Args:
        plan: how.
        table: the rows, with `distance` where rows are weighed.
        rows: the same as tokens; their weights are set.
        base: the pristine one.
        tokenizer: the base's.
        label: what progress lines call the training.

    Raises:
        UserError: a row has no distance, or the representation lacks something.
    """
    weighting, name = plan.weighting, f"{label}: distances"
    if weighting.granularity == "token":
        model: Any = base.model()
        embeddings = model.get_input_embeddings().weight.detach().cpu()  # (vocabulary, width)
        by_token = _TokenDistances(rows, base.task, embeddings, weighting.batch_size, name)
        return Reweighting(plan, rows, by_token(model, 0, 1).numpy(), by_token, label)
    distances = table.reindex(columns=["distance"])["distance"].to_numpy(dtype=float, copy=True)
    if weighting.refresh_steps is None:
        return Reweighting(plan, rows, distances, None, label)
    vectors = plan.representation.open(base.model(), tokenizer)
    by_answer = _AnswerDistances(plan, table, base.task, tokenizer, vectors, name)
    return Reweighting(plan, rows, distances, by_answer, label)


@dataclass(frozen=True)
class _AnswerDistances:
    """Measures rows by a model's greedy answers (a classifier's: by the word of its label)."""

    plan: Plan
    table: pd.DataFrame
    task: Task
    tokenizer: PreTrainedTokenizerBase
    vectors: Vectors
    label: str

    def __call__(self, model: torch.nn.Module, process: int, num_processes: int) -> torch.Tensor:
        """Return distances of this process's rows  # (rows,). The batches are the same for any number of processes."""
        asked = self.task.encode(self.tokenizer, self.table.assign(target=""))
        size, evaluator = self.plan.weighting.batch_size, self.task.evaluator
        decoding = Decoding(size, self.plan.max_new_tokens, self.plan.extra_tokens)
        batches = batches_by_length([len(row.input_ids) for row in asked], size)
        found = torch.zeros(len(self.table), dtype=torch.float64)
        for batch in progress(batches[process::num_processes], self.label):
            rows = self.table.iloc[batch]
            answers = answer_rows(evaluator, model, self.tokenizer, rows, decoding, self.label)
            distances = answer_distances(evaluator, self.tokenizer, rows, answers, self.vectors, decoding)
            found[batch] = torch.from_numpy(distances.to_numpy(dtype=float, copy=True))
        return found


@dataclass(frozen=True)
class _TokenDistances:
    """Measures learned tokens by what a model would say in their place, after the right tokens before it."""

    rows: Rows
    task: Task
    embeddings: torch.Tensor
    batch_size: int
    label: str

    @torch.inference_mode()
    def __call__(self, model: torch.nn.Module, process: int, num_processes: int) -> torch.Tensor:
        """Return distances of the learned tokens of this process's rows  # (items,)."""
        device = next(model.parameters()).device
        found = torch.zeros(len(self.rows.weights), dtype=torch.float64)
        batches = batches_by_length([len(row.input_ids) for row in self.rows.rows], self.batch_size)
        for batch in progress(batches[process::num_processes], self.label):
            chosen = [self.rows.rows[i] for i in batch]
            targets = self.task.objective.targets(chosen)  # (batch, seq)
            inputs = {name: tensor.to(device) for name, tensor in self.task.inputs(chosen).items()}
            # Prompt-learning methods may put virtual tokens first; tokens are aligned at their end.
            said = model(**inputs).logits[:, -targets.shape[1] :].argmax(-1).cpu()  # (batch, seq)
            learned = self.task.objective.target_mask(targets)
            said, right = said[learned], targets.roll(-1, 1)[learned]  # (items of the batch,)
            distances = cosine_distance(self.embeddings[said], self.embeddings[right])
            found[self.rows.places(batch)] = distances.where(said != right, 0.0)
        return found
