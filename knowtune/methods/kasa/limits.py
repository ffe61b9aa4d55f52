"""What KaSA cannot go with, for params.yaml and for the adapter's config; imports nothing heavy."""

from __future__ import annotations

from typing import Any

from knowtune.common.errors import Problem
from knowtune.methods.peft_changes import STARTS_ELSEWHERE
from knowtune.registry import Context

WRITES_BASE = "it writes the base's weights, which KaSA leaves as they are"
STARTS = "true, false, gaussian or orthogonal"


def writes_base(start: object) -> bool:
    """Say whether a value of LoRA's `init_lora_weights` changes the base's weights."""
    return str(start).lower().startswith((*STARTS_ELSEWHERE, "lora_ga"))


def rank_problems(context: Context, rank: int, targets: object, option: str) -> list[Problem]:
    """Refuse a rank that leaves nothing of a weight, as far as the params say how large the weights are.

    Args:
        context: of the run; what builds the embedded base says its sizes.
        rank: r.
        targets: the adapter's `target_modules`; by its name a layer may be one of attention.
        option: what the rank is called.
    """
    build = context.base.get("build", {})  # each linear layer has a side of hidden_size
    sides = ["hidden_size", *(["intermediate_size"] if targets == "all-linear" else [])]
    smaller = min((build[side] for side in sides if side in build), default=None)
    if smaller is None or rank < smaller:
        return []
    got = f"{rank} for weights of {smaller} singular values, of which as many as the rank are dropped"
    return [Problem(f"{context.where}.options.{option}", got, f"at most {smaller - 1}")]


def option_problems(context: Context, options: dict[str, Any]) -> list[Problem]:
    """Say what of PEFT's own options for LoRA does not go with a `kasa_config` among them.

    Args:
        context: of the run.
        options: as written in params.yaml.
    """
    problems, where = [], f"{context.where}.options"
    if context.quantized:
        got = "KaSA on a quantised base, whose packed weights have no singular values to drop"
        problems.append(Problem(f"{where}.kasa_config", got, "quantize: none, or leave it out"))
    start, rank = options.get("init_lora_weights", True), options.get("r", 8)
    if writes_base(start):
        got = f"{start!r} beside kasa_config: {WRITES_BASE}"
        problems.append(Problem(f"{where}.init_lora_weights", got, STARTS))
    if isinstance(rank, int) and not options.get("rank_pattern"):
        problems += rank_problems(context, rank, options.get("target_modules"), "r")
    return problems
