"""The one grammar of every family: a member is a settings model whose fields are its options.

A family is a folder with one file per member and, in its `__init__`, one dict from the member's name to
"module:object". The dict holds strings, so that a new member changes no other member's code. Adding a filter,
selector, method, mixture or metric is one file and one line; its options are then checked in params.yaml by the
fields it declares.
"""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

from knowtune.errors import unknown

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from transformers import PreTrainedModel


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


class Filter(Member):
    """Decides, row by row, what is worth learning."""

    @abstractmethod
    def reasons(self, rows: pd.DataFrame, answers: pd.DataFrame) -> pd.Series[str]:
        """Say why each row is dropped.

        Args:
            rows: training rows as the data contract gives them.
            answers: the pristine base's answers, one row per training row, same order.

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
    """

    scores: pd.Series[float]
    chosen: pd.Series[bool]
    mask: dict[str, torch.Tensor] | None
    trace: list[dict[str, Any]]


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
    def choose(self, rows: pd.DataFrame, shapes: Mapping[str, tuple[int, ...]], seed: int) -> Choice:
        """Choose among `rows` and among the parameters of a model, given as name -> shape."""


class Method(Member):
    """A way to change a model: attach, train, save, load, and fold into plain weights where that is possible."""

    uses_mask: ClassVar[bool] = False

    @property
    def folds(self) -> bool:
        """Whether the trained change can be written into the base's own weights."""
        return True

    @property
    def resumes(self) -> bool:
        """Whether a checkpoint of a half-trained model holds all that further training needs."""
        return True

    @abstractmethod
    def attach(self, model: PreTrainedModel, mask: dict[str, torch.Tensor] | None = None) -> torch.nn.Module:
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


class Metric(Member):
    """One number of the leaderboard, computed from per-item results of a model and of the pristine base."""

    higher_is_better: ClassVar[bool]
    unit: ClassVar[str]
    about: ClassVar[str]

    @abstractmethod
    def compute(self, items: pd.DataFrame, texts: pd.DataFrame) -> float | None:
        """Return the number, or None where the data has no item to measure it on.

        Args:
            items: columns id, fact, relation, kind, correct, loss, base_correct, base_loss.
            texts: columns id, loss (nats per token), base_loss, num_tokens.
        """
