"""What an IMSM adapter is: an inner adapter, and a gate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from peft import PeftConfig
from peft.utils.peft_types import PeftType

from knowtune.common.errors import UserError
from knowtune.methods.imsm.options import GATES, inner_fault
from knowtune.methods.peft_enum import add_member


@dataclass
class ImsmConfig(PeftConfig):
    """Options of an IMSM adapter.

    Args:
        inner: the adapter of the tuned memory: the config of any method of PEFT that leaves the base as it is.
        gate: query (the paper's), token (the paper's ablation without query) or fixed (0.5 everywhere, without
            parameters: the ablation without gate).
        gate_rank: r of W_A and W_B.
        gate_dropout: on the outputs of W_A and of W_B, in training.
        hidden_size: d, the width that the head reads. Filled when attached; a saved adapter fits no other.
    """

    inner: PeftConfig | dict[str, Any] | None = None
    gate: Literal["query", "token", "fixed"] = "query"
    gate_rank: int = 8
    gate_dropout: float = 0.0
    hidden_size: int | None = field(default=None)

    target_modules: ClassVar[None] = None  # PEFT asks every tuner's config

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]
        self.peft_type = add_member(PeftType, "IMSM")
        if isinstance(self.inner, dict):  # as it is saved
            self.inner = PeftConfig.from_peft_type(**self.inner)
        if problems := self.problems():
            raise UserError("ImsmConfig: " + "; ".join(problems))

    @property
    def adapter(self) -> PeftConfig:
        """The inner adapter's config."""
        assert isinstance(self.inner, PeftConfig)
        return self.inner

    @property
    def num_virtual_tokens(self) -> int:
        """Positions of the context that the inner adapter takes."""
        return int(getattr(self.inner, "num_virtual_tokens", None) or 0)

    def problems(self) -> list[str]:
        """Say what is wrong with the options, each with what is allowed."""
        problems = []
        if not isinstance(self.inner, PeftConfig) or self.inner.peft_type is None:
            problems.append(f"inner: got {self.inner!r}; allowed: the config of a method of PEFT, e.g. LoraConfig")
        elif fault := inner_fault(_name(self.inner), self.inner):
            problems.append(f"inner: {_name(self.inner)} cannot be woven: {fault}")
        if self.gate not in GATES:
            problems.append(f"gate: got {self.gate!r}; allowed: {', '.join(GATES)}")
        if self.gate_rank < 1:
            problems.append(f"gate_rank: got {self.gate_rank}; allowed: 1 or more")
        if not 0 <= self.gate_dropout < 1:
            problems.append(f"gate_dropout: got {self.gate_dropout}; allowed: 0 to less than 1")
        if self.task_type not in (None, "CAUSAL_LM"):
            problems.append(f"task_type: got {self.task_type}; allowed: CAUSAL_LM")
        return problems

    def to_dict(self) -> dict[str, Any]:
        """Return the options that are saved, the inner adapter's as its own class saves them."""
        inner, self.inner = self.adapter, None
        try:
            options: dict[str, Any] = super().to_dict()
        finally:
            self.inner = inner
        saved = {key: sorted(value) if isinstance(value, set) else value for key, value in inner.to_dict().items()}
        saved.pop("runtime_config", None)  # as PEFT's own
        return {**options, "inner": {**saved, "base_model_name_or_path": None, "revision": None}}


def _name(config: PeftConfig) -> str:
    return str(getattr(config.peft_type, "value", config.peft_type)).lower()
