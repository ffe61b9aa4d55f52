"""The one grammar of every family: a member is a settings model whose fields are its options.

A family is a folder with one file per member and, in its `__init__`, one dict from the member's name to
"module:object". The dict holds strings, so that a new member changes no other member's code. Adding a filter,
selector, method, mixture or metric is one file and one line; its options are then checked in params.yaml by the
fields it declares.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from knowtune.errors import unknown

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from knowtune.encoding import Encoded, Labelled


class Member(BaseModel):
    """A member of a family: its fields are its options, with types and bounds."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def member_class(registry: Mapping[str, str], family: str, name: str) -> type[Any]:
    """Import the class of a member by its name.

    Raises:
        UserError: no member has this name; the message lists the known ones and the nearest.
    """
    if name not in registry:
        raise unknown(family, name, registry)
    module, _, attribute = registry[name].partition(":")
    found: type[Any] = getattr(importlib.import_module(module), attribute)
    return found


class Task(Member):
    """What is learned and how it is judged: how rows become tokens, which head the model has, the loss, the verdict."""

    learned: ClassVar[str]  # the metric that says what was learned, and the one that says what was lost
    lost: ClassVar[str]

    @abstractmethod
    def load_model(self, folder: Path, **options: Any) -> PreTrainedModel:
        """Load a checkpoint with this task's head; weights it lacks follow torch's global seed, as a new head does.

        Args:
            folder: in transformers layout.
            options: of transformers' `from_pretrained`.

        Raises:
            UserError: the checkpoint lacks more than a head, or its architecture cannot do this task.
        """

    @abstractmethod
    def require_fit(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, context: int | None
    ) -> None:
        """Run a model on a few tokens, and refuse one that cannot do this task, whatever it is called.

        Args:
            model: as `load_model` gives it, in evaluation mode.
            tokenizer: its own.
            folder: for messages.
            context: tokens that it can read; None where nothing limits them.

        Raises:
            UserError: says what it does, and what to give instead.
        """

    @abstractmethod
    def read_target(self, cell: Any) -> list[str]:
        """Read what a data file says is right: the target first, then further right answers; [] where it says nothing.

        Raises:
            ValueError: the cell says what this task does not have, e.g. a label out of range.
        """

    @abstractmethod
    def encode(self, tokenizer: PreTrainedTokenizerBase, rows: pd.DataFrame) -> Sequence[Encoded | Labelled]:
        """Turn rows of the data contract into tokens."""

    @abstractmethod
    def inputs(self, encoded: Sequence[Any]) -> dict[str, torch.Tensor]:
        """Pad a batch on the right into what the model's forward pass takes  # each (batch, seq)."""

    @abstractmethod
    def targets(self, encoded: Sequence[Any]) -> torch.Tensor:
        """Give what the loss compares with, first dimension the batch."""

    @abstractmethod
    def item_losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of each item that is learned of a row, and 0 of what is not  # (batch, items)."""

    def losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return each row's loss, summed over its items  # (batch,)."""
        return self.item_losses(logits, targets).sum(1)

    @abstractmethod
    def item_mask(self, targets: torch.Tensor) -> torch.Tensor:
        """Tell which of `item_losses` are of an item that is learned  # (batch, items), bool."""

    def num_items(self, targets: torch.Tensor) -> torch.Tensor:
        """Count what is learned in a batch: the loss of a step is the sum of losses over this."""
        return self.item_mask(targets).sum()

    @abstractmethod
    def expected_targets(
        self, logits: torch.Tensor, targets: torch.Tensor, draws: int, generators: Sequence[torch.Generator]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield targets that the model itself expects, each with the rows' weights  # (batch,); these sum to 1 per row.

        Args:
            logits: of the model, without gradient.
            targets: the true ones; what is not learned there is not drawn.
            draws: how many to draw where the targets cannot be enumerated.
            generators: of each row's lot, on the CPU; what is drawn for a row depends on no other.
        """

    @abstractmethod
    def judge(
        self,
        model: torch.nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        rows: pd.DataFrame,
        batch_size: int,
        label: str,
    ) -> pd.DataFrame:
        """Judge rows: `correct` (bool) and `loss`, on the index of `rows`.

        A task of a head adds `predicted`, its answer in words; one of a language model `said`, that answer where the
        judgement shows it, else None.
        """

    @abstractmethod
    def read_texts(
        self,
        model: torch.nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        texts: Sequence[str],
        batch_size: int,
        max_tokens: int,
        label: str,
    ) -> tuple[pd.DataFrame, torch.Tensor | None]:
        """Read general texts: per text `num_tokens` and what else is said of it, and its states  # (text, hidden)."""

    @abstractmethod
    def answers(
        self,
        model: torch.nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        rows: pd.DataFrame,
        batch_size: int,
        max_new_tokens: int,
        label: str,
        extra_tokens: int | None = None,
    ) -> list[str]:
        """Let the model answer rows (`prompt`, `text_pair`) in words.

        Args:
            model: in any mode; left as it is.
            tokenizer: the base's.
            rows: also with `target` and `aliases` where `extra_tokens` is given.
            batch_size: rows per forward pass.
            max_new_tokens: where an answer ends at the latest.
            label: what the progress bar says.
            extra_tokens: m; an answer also ends m tokens after the length of its longest right answer. None: it does
                not. For tasks that write text.
        """

    @abstractmethod
    def distances(
        self,
        vectors: Callable[[Sequence[str]], torch.Tensor],
        tokenizer: PreTrainedTokenizerBase,
        answers: Sequence[str],
        targets: Sequence[Sequence[str]],
        extra_tokens: int,
    ) -> list[float]:
        """Return how far answers are from targets in meaning, in [0, 2]; NaN where the task has no distance.

        Args:
            vectors: see `Representation.opened`.
            tokenizer: the base's.
            answers: see `answers`.
            targets: what is right: one answer or several.
            extra_tokens: m; a written answer is cut to the length of the right one, and m tokens more to end a word.
        """


class Representation(Member):
    """Turns texts into vectors whose angle says how far they are apart in meaning.

    One that reads a model of its own has a field `path`, its folder.
    """

    @abstractmethod
    def opened(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
    ) -> Callable[[Sequence[str]], torch.Tensor]:
        """Return what turns a batch of texts into vectors  # (text, width), float32, CPU.

        Args:
            model: the pristine base; left as it is: mode, flags, gradients, generators.
            tokenizer: the base's.

        Raises:
            UserError: what it needs is missing.
        """


@dataclass(frozen=True)
class Seen:
    """What the pristine base says of training rows.

    Args:
        answers: id, answer, correct, num_tokens and distance (NaN where the task has none), on the index of the rows.
        sketches: random projections of training gradients  # (all rows, dimensions), memory-mapped: they may be larger
            than memory, so read `sketch_slices`. None where none were made.
        places: where the sketch of each row stands  # (rows,); None: sketches are in the order of the rows.
    """

    answers: pd.DataFrame
    sketches: np.ndarray[Any, Any] | None = None
    places: np.ndarray[Any, Any] | None = None

    def at(self, positions: np.ndarray[Any, Any]) -> Seen:
        """Give what is said of the rows at some positions, in their order; no sketch is read."""
        places = positions if self.places is None else self.places[positions]
        return Seen(self.answers.iloc[positions], self.sketches, places)

    def sketch_slices(self, size: int = 8192) -> Iterator[np.ndarray[Any, Any]]:
        """Yield the rows' sketches in their order, `size` at a time  # (<= size, dimensions), float64."""
        assert self.sketches is not None
        for start in range(0, len(self.answers), size):
            part = slice(start, min(start + size, len(self.answers)))
            yield self.sketches[part if self.places is None else self.places[part]].astype("float64")


class Filter(Member):
    """Decides, row by row, what is worth learning."""

    ranks: ClassVar[bool] = False  # whether it compares rows with each other, so that it can be run within strata
    needs: ClassVar[tuple[str, ...]] = ()  # of "distance" and "sketches", what it cannot do without
    reads: ClassVar[tuple[str, ...] | None] = None  # columns of rows beside id, relation and target; None: all of them

    @abstractmethod
    def reasons(self, rows: pd.DataFrame, seen: Seen) -> pd.Series[str]:
        """Say why each row is dropped. The order of the rows does not matter.

        Args:
            rows: training rows as the data contract gives them.
            seen: what the pristine base says of them, same order.

        Returns:
            One text per row, on the index of `rows`: the reason it is dropped, or "" where it is kept.
        """


@dataclass(frozen=True)
class Choice:
    """What a selector chose.

    Args:
        scores: one number per row; higher means chosen rather.
        chosen: one truth value per row.
        mask: parameter name -> flat indices that may be trained, int64, sorted; None means all of them.
        trace: one dict per round.
        layers: what the mask keeps of each parameter: columns parameter, size, kept, and where there are scores mass
            (share of their sum that lies on the parameter) and kept_mass (that of it which the mask keeps).
    """

    scores: pd.Series[float]
    chosen: pd.Series[bool]
    mask: dict[str, torch.Tensor] | None
    trace: list[dict[str, Any]]
    layers: pd.DataFrame | None = None


class Scoring(Member):
    """How rows are scored by their squared gradients g^2 of the mean loss per learned item."""

    labels: Literal["true", "expected"] = Field(
        default="true", description="labels of the data, or the model's own: over all classes, drawn for texts"
    )
    draws: int = Field(default=1, ge=1, description="how often expected labels are drawn where they are drawn")
    max_loss: float | None = Field(
        default=None, gt=0, description="nats; the gradient of a row with more loss is scaled by max_loss / loss"
    )
    batch_size: int = Field(
        default=32, ge=1, description="most rows per forward pass; no result depends on it but by rounding"
    )

    @model_validator(mode="after")
    def _draws_something(self) -> Self:
        """Refuse what has no effect."""
        if self.labels == "true" and self.draws > 1:
            raise ValueError("draws only with labels: expected")
        return self


class Pool(ABC):
    """What a selector chooses among: rows, the parameters of a model in some scope, and what is known of both.

    Args:
        rows: the kept rows, as the data contract gives them.
        shapes: parameter name -> shape, of every parameter that may be chosen (not of a classifier's head).
        num_reserved: parameters that are trained whatever is chosen: a classifier's head. They count in the budget.
    """

    rows: pd.DataFrame
    shapes: Mapping[str, tuple[int, ...]]
    num_reserved: int

    @abstractmethod
    def weights(self) -> Mapping[str, torch.Tensor]:
        """Give the parameters themselves, by the names of `shapes`."""

    @abstractmethod
    def fisher(self, rows: Sequence[int], scoring: Scoring) -> Mapping[str, torch.Tensor]:
        """Return the diagonal of the empirical Fisher information: the mean over `rows` (positions) of g^2."""

    @abstractmethod
    def row_scores(
        self, rows: Sequence[int], mask: Mapping[str, torch.Tensor] | None, scoring: Scoring
    ) -> torch.Tensor:
        """Return each row's own trace: the sum of its g^2 over a mask, or over all parameters  # (rows,), float64."""

    @abstractmethod
    def dev_score(self, rows: Sequence[int], mask: Mapping[str, torch.Tensor], seed: int) -> float:
        """Train briefly on rows and mask and return the score on validation rows; higher is better."""


class Selector(Member):
    """Chooses training rows and parameters."""

    @property
    def masks(self) -> bool:
        """Whether the choice restricts the parameters, so that the method must be able to use a mask."""
        return False

    @property
    def chooses_rows(self) -> bool:
        """Whether the choice leaves rows out, so that a run can train on the chosen ones."""
        return False

    @abstractmethod
    def choose(self, pool: Pool, seed: int) -> Choice:
        """Choose among the rows and the parameters of a pool."""


class Method(Member):
    """A way to change a model: attach, train, save, load, and fold into plain weights where that is possible."""

    uses_mask: ClassVar[bool] = False  # a method that does is a MaskedMethod
    is_adapter: ClassVar[bool] = True  # whether it trains parameters of its own, of which a selection could choose

    @property
    def folds(self) -> bool:
        """Whether the trained change can be written into the base's own weights."""
        return True

    @property
    def resumes(self) -> bool:
        """Whether a checkpoint of a half-trained model holds all that further training needs."""
        return True

    @abstractmethod
    def attach(self, model: PreTrainedModel) -> torch.nn.Module:
        """Make the model trainable by this method; random starts follow torch's global seed."""

    @abstractmethod
    def save(self, model: torch.nn.Module, folder: Path) -> None:
        """Write what was trained (and only that) into a folder, as safetensors and JSON."""

    @abstractmethod
    def load(self, model: PreTrainedModel, folder: Path) -> torch.nn.Module:
        """Put what `save` wrote back onto a pristine base."""

    @abstractmethod
    def fold(self, model: torch.nn.Module) -> PreTrainedModel:
        """Return the plain transformers model that computes what the trained one computes. Needs `folds`."""

    def penalty(self, model: torch.nn.Module) -> torch.Tensor | None:
        """Return the term this method adds to the training loss, or None."""
        return None

    def parameter_groups(self, model: torch.nn.Module) -> list[dict[str, Any]] | None:
        """Return optimiser groups where the method needs its own, or None for the Trainer's."""
        return None


class MaskedMethod(Method):
    """A method that trains only the entries that a selection chose."""

    uses_mask: ClassVar[bool] = True
    is_adapter: ClassVar[bool] = False

    @abstractmethod
    def attach_masked(
        self, model: PreTrainedModel, mask: Mapping[str, torch.Tensor], start: Path | None
    ) -> torch.nn.Module:
        """Make the chosen entries trainable, and nothing else but a classifier's head.

        Args:
            model: a pristine base.
            mask: parameter name -> flat indices.
            start: folder of a trained adapter to go on from, whose parameters the mask then names; None: the base's.
        """


class Mixture(Member):
    """Mixes several tuned models of one base by their changes against it, one tensor at a time."""

    @abstractmethod
    def combine(self, changes: list[torch.Tensor], weights: torch.Tensor, generator_seed: int) -> torch.Tensor:
        """Return the mixed change.

        Args:
            changes: one float32 tensor per model, (tuned - base), all of one shape.
            weights: (models,), sum 1.
            generator_seed: seed for what is random in the mixture; differs per tensor.
        """


@dataclass(frozen=True)
class Judged:
    """Per-item results of a model beside those of the pristine base.

    Args:
        items: columns id, fact, relation, kind, target, aliases, correct, loss, base_correct, base_loss; for a
            classifier also predicted; where some have an old answer, also old_loss, NaN where there is none; where a
            metric reads answers, also answer, distance, base_answer, base_distance.
        texts: columns id, num_tokens; for a language model also loss (nats per token) and base_loss.
        states: for a classifier, mean-pooled states of each text  # (text, hidden).
        base_states: the same of the pristine base.
        labels: of a classification, in their order.
    """

    items: pd.DataFrame
    texts: pd.DataFrame
    states: np.ndarray[Any, Any] | None = None
    base_states: np.ndarray[Any, Any] | None = None
    labels: Sequence[str] = ()

    def of_kind(self, kind: str) -> pd.DataFrame:
        """Give the items of a kind."""
        return self.items[self.items["kind"] == kind]


class Metric(Member):
    """One number of the leaderboard, computed from per-item results of a model and of the pristine base."""

    reads_answers: ClassVar[bool] = False  # whether items must have answers in words and their distances
    reads_whole_answers: ClassVar[bool] = False  # whether answers must go on beyond the length of what is right
    needs: ClassVar[tuple[str, ...]] = ()  # rows that the source must give, without which it says nothing: "known"

    tasks: ClassVar[tuple[str, ...]]
    higher_is_better: ClassVar[bool]
    unit: ClassVar[str]
    about: ClassVar[str]

    @abstractmethod
    def compute(self, judged: Judged) -> float | None:
        """Return the number, or None where the data has nothing to measure it on."""
