"""transformers' Trainer with weights of target tokens, a method's penalty, batches of like length; stops at a bad loss.

The loss of a step is  L = sum_it w_it l_it / n + penalty.  l_it is the task's loss of the target token t of row i (of a
classifier's row: of its only target, the label), w_it its weight, and n the number of target tokens of all
micro-batches and processes of the step. So one process equals two, and accumulation 1 equals 4. What a run keeps of
its base adds terms of their own means (`knowtune.preserve.preservation`).
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel, Trainer

from knowtune.common.errors import UserError
from knowtune.methods.peft_adapters import ADAPTER_WEIGHTS, require_loaded
from knowtune.methods.peft_warnings import quiet_peft
from knowtune.models.kept_logits import logits_option
from knowtune.models.load import overwrite
from knowtune.models.prompt_mask import prompt_option
from knowtune.preserve.part import Part
from knowtune.training.dataset import LengthBuckets, Rows, collate

if TYPE_CHECKING:
    from knowtune.methods.base import Method
    from knowtune.preserve.preservation import Preservation
    from knowtune.tasks.base import Task
    from knowtune.training.reweighting import Reweighting


class KnowledgeTrainer(Trainer):
    """Trainer with the weighted loss, the method's penalty and a stop at the first non-finite loss."""

    def __init__(
        self,
        *,
        task: Task,
        method: Method | None,
        rows: Rows,
        reweighting: Reweighting | None,
        preservation: Preservation | None,
        steps_before: int = 0,
        rows_before: int = 0,
        length_window: int,
        all_logits: bool,
        **options: Any,
    ) -> None:
        """Take the task, the method whose penalty and groups apply, the rows, their weights, what keeps the base.

        And the steps and rows of earlier phases, so that what is read beside the rows goes on where they ended; among
        how many batches rows of like length meet; whether logits are computed that the loss does not read.
        """
        super().__init__(data_collator=partial(collate, task=task), train_dataset=rows, **options)
        self.task, self.method, self.rows, self.reweighting = task, method, rows, reweighting
        self.preservation = preservation
        self.steps_before, self.rows_before = steps_before, rows_before
        self.length_window, self.all_logits = length_window, all_logits
        self._micro_batch, self._micro_batches = 0, 1  # of the current step
        self.lengths = [len(row.input_ids) for row in rows.rows]
        validation: Rows | None = options["eval_dataset"]
        self.targets_per_row = validation.num_learned / len(validation) if validation is not None else 0.0
        self.model_accepts_loss_kwargs = True  # compute_loss below divides by num_items_in_batch itself

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return sum_it w_it l_it / n, plus the penalty in training; a validation has no weights."""
        labels, index = inputs.pop("labels"), inputs.pop("index")
        plain = self._plain(model)
        num = 0 if self.all_logits else self.task.objective.num_read(labels)
        options = {**prompt_option(plain, labels, inputs.get("attention_mask")), **logits_option(plain, num)}
        # before the forward pass, so that its backward pass comes last, when nothing else is held any more
        penalty = self.method.penalty(plain) if self.method and model.training else None
        outputs = model(**inputs, **options)
        each = self.task.objective.target_losses(outputs.logits, labels)  # (batch, targets)
        if not model.training:
            # the evaluation loop averages batches by their rows, so the whole is a mean over target tokens
            loss = each.sum(1).sum() / (self.targets_per_row * len(labels))
            self._require_finite(loss, [])
            return (loss, outputs) if return_outputs else loss
        weights = self.rows.weights[self.rows.positions(index.tolist())].to(each.device)
        each = each * torch.zeros_like(each).masked_scatter(self.task.objective.target_mask(labels), weights)
        losses = each.sum(1)  # (batch,)
        num_targets = num_items_in_batch if num_items_in_batch is not None else self.task.objective.num_targets(labels)
        loss = losses.sum() / num_targets
        if penalty is not None and not torch.isfinite(penalty):
            raise UserError(f"the penalty is not finite at step {self.state.global_step + 1}")
        self._require_finite(loss, [self.rows.ids[i] for i in index[~torch.isfinite(losses)].tolist()])
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes  # DDP averages gradients over the processes
        if penalty is not None:
            loss = loss + penalty / self.current_gradient_accumulation_steps
        return (loss, outputs) if return_outputs else loss

    def training_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Take the gradient of a micro-batch: of what keeps the base piece by piece, then of the rows.

        The pieces pass the launcher's wrapper by; their gradients go to the other processes with the rows'.
        """
        if self.preservation is None:
            return super().training_step(model, inputs, num_items_in_batch)
        model.train()
        plain, kept = self._plain(model), torch.zeros((), device=self.args.device)
        for term in self.preservation.terms(plain, self._part(), inputs["input_ids"].numel()):
            self.accelerator.backward(term)
            kept += term.detach()
        return super().training_step(model, inputs, num_items_in_batch) + kept

    def _plain(self, model: torch.nn.Module) -> Any:
        """Take a launcher's wrapper off; to look for one in every module takes 2 % of a small model's step."""
        bare = model is self.model and not self.is_fsdp_enabled  # FSDP puts its wrapper in the model's place
        return model if bare else self.accelerator.unwrap_model(model)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Count none: nobody reads them, and to look at every parameter takes 1 % of a small model's step."""
        return 0

    def get_batch_samples(self, *args: Any, **options: Any) -> Any:
        """Count the micro-batches of a step, too."""
        samples, num_items = super().get_batch_samples(*args, **options)
        self._micro_batch, self._micro_batches = 0, len(samples)
        return samples, num_items

    def _part(self) -> Part:
        """Say which part of which step this micro-batch is; the next one is asked for by the next call."""
        processes, step = self.args.world_size, self.state.global_step
        before, after = self.rows_in(step), self.rows_in(step + 1)
        number = self._micro_batch * processes + self.args.process_index
        self._micro_batch += 1
        return Part(
            step=self.steps_before + step,
            rows_before=self.rows_before + before,
            rows=after - before,
            number=number,
            parts=self._micro_batches * processes,
            num_processes=processes,
        )

    def rows_in(self, num_steps: int) -> int:
        """Count the rows of the first steps: the last step of an epoch may be smaller."""
        size, num_rows = self._rows_per_step(), len(self.lengths)
        epochs, begun = divmod(num_steps, math.ceil(num_rows / size))
        return epochs * num_rows + begun * size

    def log(self, logs: dict[str, float], *args: Any, **options: Any) -> None:
        """Log the terms that keep what the base knew, beside the loss."""
        if self.preservation is not None and "loss" in logs:
            means = self.preservation.take_means()
            logs |= {term: float(self.accelerator.reduce(mean, "mean")) for term, mean in sorted(means.items())}
        super().log(logs, *args, **options)

    def _rows_per_step(self) -> int:
        """Count the rows of a whole optimiser step, of all micro-batches and processes."""
        return int(self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size)

    def _require_finite(self, loss: torch.Tensor, rows: list[str]) -> None:
        """Stop at a loss that is not finite, and name its training rows."""
        if not torch.isfinite(loss):
            raise UserError(
                f"the loss is not finite at step {self.state.global_step + 1}; "
                f"rows: {', '.join(rows[:5]) or 'of the validation'}. "
                "Lower the learning rate, raise warmup_steps, or look at these rows"
            )

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[int]:
        """Batch rows of like length: those of a whole step, so that it is the same however it is shared out."""
        return LengthBuckets(self.lengths, self._rows_per_step(), int(self.args.data_seed or 0), self.length_window)

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """Use the method's parameter groups where it has some."""
        groups = self.method.parameter_groups(self.model) if self.method and self.model else None
        if groups is None:
            return super().create_optimizer(model) if model is not None else super().create_optimizer()
        kind, options = self.get_optimizer_cls_and_kwargs(self.args)
        self.optimizer = kind([{"weight_decay": self.args.weight_decay, **group} for group in groups], **options)
        return self.optimizer

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        """Save a checkpoint's weights, without false alarms."""
        with quiet_peft():
            super()._save(output_dir, state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        """Go on from a checkpoint's weights, or stop: the Trainer passes over names that it does not know."""
        if not self._overwrite(Path(resume_from_checkpoint)):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            self._require_loaded(Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        """Return to the best checkpoint's weights, or stop."""
        best = Path(str(self.state.best_model_checkpoint))
        if not self._overwrite(best):
            super()._load_best_model()
            self._require_loaded(best)

    def _overwrite(self, folder: Path) -> bool:
        """Load a checkpoint of a plain model; return False where the model is none, or lies in parts."""
        model: Any = self.accelerator.unwrap_model(self.model)
        plain = isinstance(model, PreTrainedModel) and not (self.is_fsdp_enabled or self.is_deepspeed_enabled)
        if plain:
            overwrite(model, folder)
        return plain

    def _require_loaded(self, folder: Path) -> None:
        """Compare an adapter with its checkpoint."""
        model: Any = self.accelerator.unwrap_model(self.model)
        if (folder / ADAPTER_WEIGHTS).is_file() and not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            require_loaded(model, folder)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Write the weights beside them: before the Trainer's state, whose file says that a checkpoint is whole."""
        super()._save_optimizer_and_scheduler(output_dir)
        if self.reweighting is not None and self.args.should_save:
            self.reweighting.save(Path(output_dir))
