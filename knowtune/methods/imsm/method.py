"""IMSM: the memories of base and tuned model interwoven at every token (Song et al., arXiv 2412.17383, AAAI 2025).

    h''_t = h'_t + gate_t (h_t - h'_t)      gate_t = sigmoid([hbar ; h_t ; h'_t ; hbar'] W_A W_B)

h, h' are the states that the output head reads of the base and of the base with an inner method's adapter, hbar and
hbar' their means over the prompt. Inner adapter and gate are trained together, the gate at a learning rate of its own:
the authors' code leaves it at AdamW's default, 1e-3. `knowtune.methods.imsm.tuner` says what is whose.

The inner method is any of the family that leaves the base's weights as they are; its masks, penalties and groups are
its own business still. Nothing folds: merged, it stays base, inner adapter and gate, a composed artefact.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from knowtune.common.errors import Problem, UserError
from knowtune.methods import METHODS
from knowtune.methods.base import MaskedMethod, Method
from knowtune.methods.imsm.options import PROMPT_TYPES, PROMPTS, inner_fault
from knowtune.registry import Context, member_class

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LEARNED = {"gate_rank", "gate_dropout", "gate_learning_rate"}  # options of a gate that is learned
ALLOWED = "an adapter that leaves the base as it is: lora, kasa, fish, sk_tuning, or peft"


class Inner(BaseModel):
    """The method of the tuned memory, as a run names one."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    method: str
    type: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)


class Imsm(MaskedMethod):
    """Train another method and a gate that mixes what it says with what the base says, token by token."""

    needs_mask: ClassVar[bool] = False
    is_adapter: ClassVar[bool] = True

    inner: Inner = Field(description="the method of the tuned memory, with its options; stands beside `options`")
    gate: Literal["query", "token", "fixed"] = Field(
        default="query", description="reads prompt and token as in the paper; the token alone; or is 0.5 everywhere"
    )
    gate_rank: int = Field(default=8, ge=1, le=4096, description="rank of the gate's matrices")
    gate_dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout on the outputs of the gate's matrices")
    gate_learning_rate: float = Field(default=1e-3, gt=0, le=1, description="of the gate; schedule as the rest")

    @property
    def inside(self) -> Method:
        """The inner method."""
        options = dict(self.inner.options)
        if self.inner.type is not None:
            options["type"] = self.inner.type
        made: Method = member_class(METHODS, "method", self.inner.method)(**options)
        return made

    @property
    def folds(self) -> bool:
        """A gate that depends on the token is no weight."""
        return False

    @property
    def resumes(self) -> bool:
        """As the inner method."""
        return self.inside.resumes

    @property
    def computes_change(self) -> bool:
        """As the inner method, by which alone a weight is changed."""
        return self.inside.computes_change

    def num_virtual_tokens(self, tokenizer: PreTrainedTokenizerBase) -> int:
        """As the inner method."""
        return self.inside.num_virtual_tokens(tokenizer)

    def demands(self, context: Context) -> list[Problem]:
        """Refuse a task without prompts, an inner method that cannot be woven, and options that do nothing."""
        where, inner = context.where, self.inner
        problems = super().demands(context)
        if context.task not in ("knowledge", None):
            got = f"'imsm' for a {context.task}, whose model is an encoder or has no answer after a prompt"
            problems.append(Problem(f"{where}.method", got, "another method, e.g. lora"))
        if not self.inside.is_adapter and not self.inside.needs_mask:
            got = f"{inner.method!r}, which trains the base itself, so that none is left as the frozen memory"
            problems.append(Problem(f"{where}.inner.method", got, ALLOWED))
        kind = inner.type if inner.method == "peft" else inner.method
        fault = PROMPTS if kind in PROMPT_TYPES else inner_fault(str(kind), SimpleNamespace(**inner.options))
        if fault is not None:
            key = "type" if inner.method == "peft" else "method"
            problems.append(Problem(f"{where}.inner.{key}", f"{kind!r}, which cannot be woven: {fault}", ALLOWED))
        else:
            problems += self.inside.demands(replace(context, where=f"{where}.inner", section=inner.model_dump()))
        if self.gate == "fixed":
            problems += [
                Problem(f"{where}.options.{name}", "an option of a gate that is learned", "leave it out")
                for name in sorted(LEARNED & self.model_fields_set)
            ]
        return problems

    def attach(self, model: PreTrainedModel) -> torch.nn.Module:
        """Let the inner method attach, and add the gate."""
        from knowtune.methods.imsm.tuner.weave import weave

        return weave(model, self.inside.attach, **self._gate())

    def attach_masked(
        self, model: PreTrainedModel, mask: Mapping[str, torch.Tensor], start: Path | None
    ) -> torch.nn.Module:
        """Let the inner method attach by the mask, less what of it is the output head's; and add the gate.

        Raises:
            UserError: the inner method can use no mask.
        """
        from knowtune.methods.imsm.tuner.weave import weave, without_head

        inside = self.inside
        if not isinstance(inside, MaskedMethod):
            raise UserError(
                f"imsm: its inner method {self.inner.method!r} can use no parameter mask; take lora or fish"
            )
        chosen, num = without_head(model, mask) if start is None else (mask, 0)
        if num:
            print(f"imsm: {num:,} entries of the mask are of the output head, which stays the base's", file=sys.stderr)
        return weave(model, lambda base: inside.attach_masked(base, chosen, start), **self._gate())

    def _gate(self) -> dict[str, Any]:
        return {"gate": self.gate, "gate_rank": self.gate_rank, "gate_dropout": self.gate_dropout}

    def save(self, model: torch.nn.Module, folder: Path) -> None:
        """Save as the inner method does, the gate with it."""
        self.inside.save(model, folder)

    def load(self, model: PreTrainedModel, folder: Path) -> torch.nn.Module:
        """Load by PEFT."""
        from knowtune.methods.peft_adapters import load_adapter

        return load_adapter(model, folder)

    def fold(self, model: torch.nn.Module) -> PreTrainedModel:
        """Refuse."""
        raise UserError(
            "IMSM mixes two models by a gate that depends on the token, so no weight computes it; it stays a composed "
            "artefact of base, inner adapter and gate"
        )

    def penalty(self, model: torch.nn.Module) -> torch.Tensor | None:
        """Return the inner method's."""
        return self.inside.penalty(model)

    def begin(self, model: torch.nn.Module, num_steps: int) -> None:
        """Prepare the inner method."""
        self.inside.begin(model, num_steps)

    def after_step(self, model: torch.nn.Module, step: int) -> None:
        """Do what the inner method does."""
        self.inside.after_step(model, step)

    def similarity(self, model: torch.nn.Module) -> float | None:
        """Return the inner method's."""
        return self.inside.similarity(model)

    def parameter_groups(self, model: torch.nn.Module) -> list[dict[str, Any]] | None:
        """Return the inner method's groups, and the gate's with a learning rate of its own."""
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        gate = {name: parameter for name, parameter in trained.items() if ".imsm_gate." in name}
        if not gate:
            return self.inside.parameter_groups(model)
        rest = [parameter for name, parameter in trained.items() if name not in gate]
        groups = self.inside.parameter_groups(model) or [{"params": rest}]
        return [*groups, {"params": list(gate.values()), "lr": self.gate_learning_rate}]
