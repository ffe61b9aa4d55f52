"""What a FISH adapter is: which entries are trained, by a mask or by a rule."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from peft import PeftConfig
from peft.utils.peft_types import PeftType

from knowtune.common.errors import UserError
from knowtune.methods.peft_enum import add_member

Modules = list[str] | set[str] | str


@dataclass
class FishConfig(PeftConfig):
    """Options of a FISH adapter; the entries come from `mask`, or from `strategy` with a budget.

    Args:
        mask: name -> flat int64 indices, by the names of the base model's `named_parameters()`; or the path of a mask
            (safetensors). Not saved with the config: the adapter's own file holds the indices.
        strategy: magnitude (the entries with the largest absolute weights) or random.
        budget: share of the candidate entries.
        num_parameters: number of entries, instead of `budget`.
        per_parameter: choose equal shares of every parameter instead of the best of all together.
        seed: of the random choice.
        target_modules: candidates are the parameters of these modules: names or ends of names, one regular expression,
            or "all-linear"; None means every parameter.
        exclude_modules: modules whose parameters are no candidates; names or one regular expression.
        layers_to_transform: of the modules named by `target_modules`, only those in these layers.
        layers_pattern: name of the list of layers, where it cannot be guessed.
        init_weights: start from zeros, where the model computes what the base does; False: small random values.
        modules_to_save: modules that are trained and saved whole, e.g. a classifier's head. Never in the mask.
        counts: parameter name -> number of its entries. Filled when attached; a saved adapter is loaded by it.
        candidate_modules: what `target_modules` was. Filled when attached: PEFT would take the name of an embedding
            in `target_modules` as the wish to save that embedding whole.
    """

    mask: Mapping[str, torch.Tensor] | str | os.PathLike[str] | None = field(default=None, repr=False, compare=False)
    strategy: Literal["magnitude", "random"] | None = None
    budget: float | None = None
    num_parameters: int | None = None
    per_parameter: bool = False
    seed: int = 0
    target_modules: Modules | None = None
    exclude_modules: Modules | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    init_weights: bool = True
    modules_to_save: list[str] | None = None
    counts: dict[str, int] | None = None
    candidate_modules: Modules | None = None

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]
        self.peft_type = add_member(PeftType, "FISH")
        for name in ("target_modules", "exclude_modules", "candidate_modules"):
            if isinstance(value := getattr(self, name), list):
                setattr(self, name, set(value))
        self.given_counts = self.counts is not None
        if problems := self.problems():
            raise UserError("FishConfig: " + "; ".join(problems))

    @property
    def candidates(self) -> Modules | None:
        """Return the modules whose parameters may be chosen; None means all."""
        return self.target_modules if self.target_modules is not None else self.candidate_modules

    def problems(self) -> list[str]:
        """Say what is wrong with the options, each with what is allowed."""
        problems = []
        if self.mask is None and self.counts is None:
            if self.strategy is None:
                problems.append("which entries? Give a mask, or strategy: magnitude or random, with a budget")
            elif (self.budget is None) == (self.num_parameters is None):
                got = "neither" if self.budget is None else "both"
                problems.append(f"got {got} of budget (a share) and num_parameters (a number); give one of them")
        if self.mask is not None and not (
            self.strategy is None and self.budget is None and self.num_parameters is None
        ):
            problems.append("a mask leaves nothing to strategy, budget and num_parameters; leave them out")
        if self.strategy not in (None, "magnitude", "random"):
            problems.append(f"strategy: got {self.strategy!r}; allowed: magnitude, random")
        if self.budget is not None and not 0 < self.budget <= 1:
            problems.append(f"budget: got {self.budget}; allowed: more than 0, at most 1")
        if self.num_parameters is not None and self.num_parameters < 1:
            problems.append(f"num_parameters: got {self.num_parameters}; allowed: 1 or more")
        if self.layers_to_transform is not None and not isinstance(self.candidates, set):
            problems.append("layers_to_transform needs target_modules as a list of names")
        if self.layers_pattern and self.layers_to_transform is None:
            problems.append("layers_pattern says nothing without layers_to_transform")
        return problems

    def to_dict(self) -> dict[str, Any]:
        """Return the options that are saved: all but the mask."""
        mask, self.mask = self.mask, None
        try:
            options: dict[str, Any] = super().to_dict()
        finally:
            self.mask = mask
        del options["mask"]
        return options
