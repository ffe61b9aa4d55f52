"""The distances or losses that rows, or their target tokens, are weighed by, measured on a model as it is.

A *unit* is what has a distance or a loss: a row, or (`granularity: token`) each of its target tokens.

    row      d_i  = distance of the model's greedy answer to the target         `knowtune.semantics.distance`
    token    d_it = 1 - cos(E[argmax p(. | x_i, y_i,<t)], E[y_it])              0 where the model predicts the right one
    loss     l_it = -log p(y_it | x_i, y_i,<t)             of a head: the loss of its label or score

E        input embeddings of the pristine base  (vocabulary, width); vectors of answers are the pristine base's too
p        the model that is measured

Measuring draws no random number and leaves the modes of all modules as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from knowtune.common.progress import progress
from knowtune.models.kept_logits import logits_option
from knowtune.models.prompt_mask import prompt_option
from knowtune.semantics.distance import cosine_distance
from knowtune.tasks.answers import Decoding, answer_distances, answer_rows
from knowtune.text.batches import batches_by_length

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

    from knowtune.semantics.distance import Vectors
    from knowtune.tasks.base import Task
    from knowtune.training.dataset import Rows

# Takes a model, the number of this process and how many there are; returns the units' distances, 0 outside of this
# process's share  # (units,), float64, CPU.
Measure = Callable[[torch.nn.Module, int, int], torch.Tensor]


@dataclass(frozen=True)
class AnswerDistances:
    """Measures rows by a model's greedy answers (a classifier's: by the word of its label)."""

    table: pd.DataFrame
    task: Task
    tokenizer: PreTrainedTokenizerBase
    vectors: Vectors
    decoding: Decoding
    label: str

    def __call__(self, model: torch.nn.Module, process: int, num_processes: int) -> torch.Tensor:
        """Return distances of this process's rows  # (rows,). The batches are the same for any number of processes."""
        evaluator = self.task.evaluator
        prompts = self.task.encode(self.tokenizer, self.table.assign(target=""))
        batches = batches_by_length([len(row.input_ids) for row in prompts], self.decoding.batch_size)
        distances = torch.zeros(len(self.table), dtype=torch.float64)
        for batch in progress(batches[process::num_processes], self.label):
            rows = self.table.iloc[batch]
            answers = answer_rows(evaluator, model, self.tokenizer, rows, self.decoding, self.label)
            measured = answer_distances(evaluator, self.tokenizer, rows, answers, self.vectors, self.decoding)
            distances[batch] = torch.from_numpy(measured.to_numpy(dtype=float, copy=True))
        return distances


@dataclass(frozen=True)
class TokenDistances:
    """Measures target tokens by what a model would predict in their position, after the right tokens before it."""

    rows: Rows
    task: Task
    embeddings: torch.Tensor
    batch_size: int
    label: str

    @torch.inference_mode()
    def __call__(self, model: torch.nn.Module, process: int, num_processes: int) -> torch.Tensor:
        """Return distances of the target tokens of this process's rows  # (target tokens,)."""
        device = next(model.parameters()).device
        distances = torch.zeros(len(self.rows.weights), dtype=torch.float64)
        batches = batches_by_length([len(row.input_ids) for row in self.rows.rows], self.batch_size)
        for batch in progress(batches[process::num_processes], self.label):
            rows = [self.rows.rows[i] for i in batch]
            targets = self.task.objective.targets(rows)  # (batch, seq)
            inputs: dict[str, Any] = {name: tensor.to(device) for name, tensor in self.task.inputs(rows).items()}
            # Prompt-learning methods may put virtual tokens first; tokens are aligned at their end.
            inputs |= prompt_option(model, targets.to(device), inputs["attention_mask"])
            num = self.task.objective.num_read(targets) or targets.shape[1]
            inputs |= logits_option(model, num)
            predicted = model(**inputs).logits[:, -num:].argmax(-1).cpu()  # (batch, read)
            learned = self.task.objective.target_mask(targets)
            predicted = predicted[learned[:, -num:]]  # (target tokens of the batch,)
            right = targets.roll(-1, 1)[learned]
            measured = cosine_distance(self.embeddings[predicted], self.embeddings[right])
            distances[self.rows.positions(batch)] = measured.where(predicted != right, 0.0)
        return distances


@dataclass(frozen=True)
class TargetLosses:
    """Measures target tokens by a model's loss, in nats; of a head its label or score by the task's loss."""

    rows: Rows
    task: Task
    batch_size: int
    label: str

    @torch.inference_mode()
    def __call__(self, model: torch.nn.Module, process: int, num_processes: int) -> torch.Tensor:
        """Return losses of the target tokens of this process's rows  # (target tokens,)."""
        device, objective = next(model.parameters()).device, self.task.objective
        losses = torch.zeros(len(self.rows.weights), dtype=torch.float64)
        batches = batches_by_length([len(row.input_ids) for row in self.rows.rows], self.batch_size)
        for batch in progress(batches[process::num_processes], self.label):
            rows = [self.rows.rows[i] for i in batch]
            targets = objective.targets(rows).to(device)  # (batch, seq), or (batch,)
            inputs: dict[str, Any] = {name: tensor.to(device) for name, tensor in self.task.inputs(rows).items()}
            inputs |= prompt_option(model, targets, inputs["attention_mask"])
            inputs |= logits_option(model, objective.num_read(targets))
            each = objective.target_losses(model(**inputs).logits, targets)  # (batch, targets)
            losses[self.rows.positions(batch)] = each[objective.target_mask(targets)].double().cpu()
        return losses
