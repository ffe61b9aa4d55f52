"""Runs both memories whenever a backbone runs, and gives their mix to what reads it; by hooks on the backbone."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import DynamicCache

from knowtune.common.errors import UserError
from knowtune.methods.imsm.tuner.backbone import adapter_layers, without_adapters
from knowtune.methods.imsm.tuner.cache import keeps_keys, open_memories
from knowtune.methods.imsm.tuner.config import ImsmConfig
from knowtune.methods.imsm.tuner.gate import Gate, mix
from knowtune.methods.imsm.tuner.paired import Pairing, both_rows
from knowtune.methods.imsm.tuner.passes import PromptSource, Run, give_back, states_of
from knowtune.methods.imsm.tuner.query import running_queries
from knowtune.models.arguments import arguments_of
from knowtune.models.hidden_states import evaluating

FIXED = 0.5


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
        self.keeps_keys = keeps_keys(backbone)
        self.layers: list[Any] = []  # of the inner adapter; they have their own parents
        self.readers: list[Any] = []  # of these, those that run the backbone by themselves, as SK-Tuning's do
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
        self.readers = [layer for layer in self.layers if hasattr(layer, "reading")]
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
        if name is None or any(layer.reading for layer in self.readers):
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
        frozen = {} if run.held is None else {"past_key_values": run.held.frozen}
        tuned = {} if run.held is None else {"past_key_values": run.held.tuned}
        quiet = {key: False for key in ("output_hidden_states", "output_attentions") if given.get(key)}
        mode = evaluating(backbone) if backbone.training else nullcontext()
        with torch.no_grad(), without_adapters(self.layers), mode:
            run.frozen = states_of(backbone(**{**given, **wanted, **quiet, **frozen}))
        return (), {**given, **wanted, **tuned}

    def _open(self, backbone: Any, given: dict[str, Any], name: str) -> Run:
        """Read what a caller gives."""
        tokens = given["inputs_embeds"] if given.get("input_ids") is None else given["input_ids"]
        batch, num = tokens.shape[:2]
        past = self._cache(backbone, given)
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

    def _cache(self, backbone: Any, given: dict[str, Any]) -> Any:
        """Take the caller's cache, or make one where one is wanted; None where none is.

        Raises:
            UserError: the model keeps another state than keys and values.
        """
        past, wanted = given.get("past_key_values"), given.get("use_cache")
        if not self.keeps_keys:
            if wanted or past is not None:
                raise UserError(
                    f"IMSM: {type(backbone).__name__} keeps no keys and values, but a state of its own, of which there "
                    "is none for a second memory; pass use_cache=False"
                )
            return None
        if wanted is None:
            wanted = past is not None or (getattr(backbone.config, "use_cache", False) and not backbone.training)
        return DynamicCache(config=backbone.config) if past is None and wanted else past

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
        states = states_of(output)
        if run.frozen is None:
            both = states.unflatten(0, (-1, 2))  # (batch, memories, seq, d)
            mixed = self._mix(run, both[:, 0], both[:, 1])
        else:
            mixed = self._mix(run, run.frozen, states)
        if run.held is not None:
            run.held.show(run.cache)
        return give_back(output, mixed, run)

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
