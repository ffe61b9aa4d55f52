"""Runs both memories whenever a backbone runs, and gives their mix to what reads it; by hooks on the backbone."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import DynamicCache

from knowtune.common.errors import UserError
from knowtune.methods.imsm.tuner.backbone import adapter_layers, arguments_of, without_adapters
from knowtune.methods.imsm.tuner.cache import Memories, open_memories
from knowtune.methods.imsm.tuner.config import ImsmConfig
from knowtune.methods.imsm.tuner.gate import Gate, mix
from knowtune.methods.imsm.tuner.paired import Pairing, both_rows
from knowtune.methods.imsm.tuner.query import Prompt, running_queries
from knowtune.models.hidden_states import evaluating

FIXED = 0.5


@dataclass
class PromptSource:
    """Where a caller's prompt is.

    Args:
        mask: true at a prompt's tokens  # (batch, seq); None: by the rule
        end: how many tokens the prompt of a generation has; None: outside of a generation.
    """

    mask: torch.Tensor | None = None
    end: int | None = None

    @property
    def known(self) -> bool:
        """Whether the caller says anything."""
        return self.mask is not None or self.end is not None

    def prompt(self, before: int, num: int, batch: int) -> Prompt:
        """Say which tokens of a pass are a prompt's.

        Args:
            before: tokens in the cache.
            num: tokens of the pass.
            batch: rows of the pass; more than the mask's where each is followed by several beams.
        """
        if not self.known:
            return before == 0
        if self.end is not None and (self.mask is None or before >= self.end):
            if before >= self.end or before + num <= self.end:
                return before < self.end
            return torch.arange(before, before + num)[None].expand(batch, -1) < self.end
        assert self.mask is not None
        if self.end is None and self.mask.shape != (batch, num):
            raise UserError(f"IMSM: the prompt mask is of {tuple(self.mask.shape)}, and the input of {(batch, num)}")
        start = 0 if self.end is None else before
        part = self.mask[:, start : start + num].bool()
        part = torch.cat([part, part.new_zeros(len(part), num - part.shape[1])], 1)
        return part.repeat_interleave(batch // len(part), 0) if len(part) and batch % len(part) == 0 else part


@dataclass
class Run:
    """One pass of a backbone.

    Args:
        name: of the adapter.
        cache: the caller's; None where none is wanted.
        held: both memories in it.
        prompt: which tokens of the pass are a prompt's.
        real: 0 for padding  # (batch, seq); None: there is none
        starts: where packed rows start  # (batch, seq); None: nowhere
        frozen: the base's states  # (batch, seq, d); None where both memories share the pass
    """

    name: str
    cache: Any
    held: Memories | None
    prompt: Prompt
    real: torch.Tensor | None
    starts: torch.Tensor | None
    frozen: torch.Tensor | None = None
    nested: int = 0  # passes of the same backbone within this one


class ImsmLayer(nn.Module, BaseTunerLayer):  # type: ignore[misc]
    """A child of the backbone that holds the gates, and mixes the memories by the active one."""

    adapter_layer_names = ("imsm_gate",)
    other_param_names = ("configs",)

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.imsm_gate = nn.ModuleDict()
        self.configs: dict[str, ImsmConfig] = {}
        self.merged_adapters: list[str] = []
        self.source = PromptSource()
        self.run: Run | None = None
        self.backbone = (backbone,)  # in a tuple, so that it is no child
        self.layers: list[Any] = []  # of the inner adapter; they have their own parents
        self.pairing: Pairing | None = None
        self.hooks = (
            backbone.register_forward_pre_hook(self.before, with_kwargs=True, prepend=True),
            backbone.register_forward_hook(self.after, always_call=True),
        )

    @property
    def weight(self) -> torch.Tensor:
        """Deny one: PEFT looks for it in a layer inside, and here is none."""
        raise AttributeError("an IMSM layer has no weight of its own")

    bias = weight

    def update_layer(self, name: str, config: ImsmConfig, width: int, device: Any) -> None:
        """Make a gate, and find what the inner adapter has put into the backbone."""
        self.configs[name] = config
        if config.gate == "fixed":
            self.imsm_gate[name] = nn.Module()
        else:
            self.imsm_gate[name] = Gate(width, config.gate_rank, config.gate_dropout, config.gate, device)
        layers = adapter_layers(self.backbone[0])
        self.layers = [layer for _, layer in layers]
        self.pairing = Pairing.of(layers)

    def active(self) -> str | None:
        """Return the name of the adapter that is on."""
        active = [] if self.disable_adapters else [name for name in self.active_adapters if name in self.imsm_gate]
        if len(active) > 1:
            raise UserError(f"IMSM: {len(active)} adapters are active, {', '.join(active)}; activate one")
        return active[0] if active else None

    def before(self, backbone: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Run the frozen memory, and let the pass that was begun be the tuned one's; or make it one of both."""
        if self.run is not None:
            self.run.nested += 1
            return None
        name = self.active()
        if name is None or any(getattr(layer, "reading", False) for layer in self.layers):
            return None
        given = {**dict(zip(arguments_of(backbone), args, strict=False)), **options}
        self.run = run = self._open(backbone, given, name)
        if self._pairs(backbone, run):
            assert self.pairing is not None and run.held is not None
            self.pairing.enter()
            return (), both_rows({**given, "past_key_values": run.held.joint, "use_cache": True})
        if run.held is not None:
            run.held.split(backbone.config)
        wanted: dict[str, Any] = {"use_cache": run.cache is not None}
        quiet = {key: False for key in ("output_hidden_states", "output_attentions") if given.get(key)}
        past = run.held and run.held.frozen
        mode = evaluating(backbone) if backbone.training else nullcontext()
        with torch.no_grad(), without_adapters(self.layers), mode:
            run.frozen = _states(backbone(**{**given, **wanted, **quiet, "past_key_values": past}))
        return (), {**given, **wanted, "past_key_values": run.held and run.held.tuned}

    def _open(self, backbone: Any, given: dict[str, Any], name: str) -> Run:
        """Read what a caller gives."""
        tokens = given["inputs_embeds"] if given.get("input_ids") is None else given["input_ids"]
        batch, num = tokens.shape[:2]
        past, use_cache = given.get("past_key_values"), given.get("use_cache")
        if use_cache is None:
            use_cache = past is not None or (getattr(backbone.config, "use_cache", False) and not backbone.training)
        if past is None and use_cache:
            past = DynamicCache(config=backbone.config)
        held = None if past is None else open_memories(past, name, backbone.config)
        length = 0 if past is None else past.get_seq_length()
        if backbone.training and not self.source.known and self.configs[name].gate == "query":
            raise UserError(
                "IMSM: where is the prompt? In training the gate must know: give labels, -100 on the prompt, or "
                "prompt_mask, true there; for text without prompts one that is true everywhere"
            )
        mask, positions = given.get("attention_mask"), given.get("position_ids")
        real = mask[:, -num:] if isinstance(mask, torch.Tensor) and mask.ndim == 2 else None
        starts = None
        if mask is None and positions is not None and positions.ndim == 2 and not length:
            starts = (positions == 0).expand(batch, -1)
        return Run(name, past, held, self.source.prompt(length, num, batch), real, starts)

    def _pairs(self, backbone: Any, run: Run) -> bool:
        """Whether both memories share this pass: a step of a generation, by an inner adapter that allows it."""
        if self.pairing is None or run.held is None or backbone.training or torch.is_grad_enabled():
            return False
        return run.cache.get_seq_length() > 0 and run.held.join() is not None

    def after(self, backbone: Any, args: tuple[Any, ...], output: Any) -> Any:
        """Mix the memories, in what the backbone gives back."""
        run = self.run
        if run is None:
            return None
        if run.nested:
            run.nested -= 1
            return None
        self.run = None
        if run.frozen is None and self.pairing is not None:
            self.pairing.leave()
        if output is None:  # the pass has failed
            return None
        states = _states(output)
        if run.frozen is None:
            both = states.unflatten(0, (-1, 2))  # (batch, memories, seq, d)
            mixed = self._mix(run, both[:, 0], both[:, 1])
        else:
            mixed = self._mix(run, run.frozen, states)
        if run.held is not None:
            run.held.show(run.cache)
        return _give_back(output, mixed, run)

    def _mix(self, run: Run, frozen: torch.Tensor, tuned: torch.Tensor) -> torch.Tensor:
        """Mix two memories' states, in float32  # (batch, seq, d), in the states' type."""
        if frozen.shape != tuned.shape:
            raise UserError(
                f"IMSM: the base gives states of {tuple(frozen.shape)} and the tuned model of {tuple(tuned.shape)}; "
                "the inner adapter must leave the positions as they are"
            )
        with torch.autocast(tuned.device.type, enabled=False):
            gate = self.gate_of(run, h := frozen.float(), own := tuned.float())
            return mix(h, own, gate).to(tuned.dtype)

    def gate_of(self, run: Run, frozen: torch.Tensor, tuned: torch.Tensor) -> torch.Tensor:
        """Compute the gate, and keep the query's sums in the cache  # (batch, seq, d)."""
        if self.configs[run.name].gate == "fixed":
            return torch.full_like(tuned, FIXED)
        gate: Any = self.imsm_gate[run.name]
        if not gate.has_query:
            return gate(frozen, tuned, None)  # type: ignore[no-any-return]
        parts = gate.query_part(frozen, tuned)
        before = None if run.held is None else run.held.sums
        queries, sums = running_queries(parts, run.real, run.prompt, run.starts, before)
        if run.held is not None:
            run.held.keep(sums)
        return gate(frozen, tuned, queries)  # type: ignore[no-any-return]

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuse."""
        raise UserError(NOT_MERGED)

    def unmerge(self) -> None:
        """Do nothing: nothing is ever merged."""


NOT_MERGED = (
    "IMSM mixes what two models say of each token by a gate that depends on the token, so no single weight computes "
    "it; keep base, inner adapter and gate together"
)


def _states(output: Any) -> torch.Tensor:
    states: torch.Tensor = output[0] if isinstance(output, tuple) else output.last_hidden_state
    return states


def _give_back(output: Any, mixed: torch.Tensor, run: Run) -> Any:
    """Put the mix and the caller's cache into what a backbone gives, a tuple or an output of transformers."""
    if isinstance(output, tuple):
        rest = [run.cache if isinstance(part, DynamicCache) else part for part in output[1:]]
        return (mixed, *(part for part in rest if part is not None))
    if run.frozen is None:
        for name in ("hidden_states", "attentions"):
            if getattr(output, name, None) is not None:
                setattr(output, name, tuple(part[1::2] for part in getattr(output, name)))
    output.last_hidden_state = mixed
    if getattr(output, "past_key_values", None) is not None or run.cache is not None:
        output.past_key_values = run.cache
    if getattr(output, "hidden_states", None) is not None:
        output.hidden_states = (*output.hidden_states[:-1], mixed)
    return output
