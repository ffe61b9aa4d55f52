"""Ask a model for the logits that are read, and for none of a prompt's: of a small model these cost a tenth of a step.

Of a vocabulary of 128,000 a token's logits and their gradient take a megabyte in float32. transformers' models compute
those of a batch's last positions alone where `logits_to_keep` says how many.
"""

from __future__ import annotations

from typing import Any

from knowtune.models.arguments import arguments_of

ARGUMENT = "logits_to_keep"


def logits_option(model: Any, num: int) -> dict[str, int]:
    """Give the argument of a pass that asks for few logits; none for a model that computes all of them.

    Args:
        model: with or without an adapter, without what a launcher wraps around it.
        num: of positions at the end of a batch; 0: all.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return {ARGUMENT: num} if num and ARGUMENT in arguments_of(inner) else {}
