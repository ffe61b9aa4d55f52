"""What the options of IMSM allow, for params.yaml and for the adapter's config; imports nothing heavy."""

from __future__ import annotations

# Types of PEFT whose prompts stand in its own model.
PROMPT_TYPES = ("cartridge", "cpt", "multitask_prompt_tuning", "p_tuning", "prefix_tuning", "prompt_tuning")
GATES = ("query", "token", "fixed")
NOT_INNER = {  # types of PEFT, in lower case, that cannot be the tuned memory: the reason
    "adaption_prompt": "it keeps its prompts outside the layers that are switched off for the frozen memory",
    "imsm": "it is itself one; give its inner method",
    "lily": "its router averages over the whole batch, the frozen memory's rows included",
    "poly": "every forward pass needs task_ids",
    "xlora": "it needs trained LoRA adapters to mix",
}
PROMPTS = "its prompts stand outside the base, in PEFT's own model; take SK_TUNING, whose prefixes stand inside"
REWRITES = "it rewrites the base's weights, so that with the adapter off the model is no longer the base"
STARTS = ("pissa", "olora", "corda", "loftq", "lora_ga")  # values of LoRA's `init_lora_weights` that do


def inner_fault(kind: str, options: object) -> str | None:
    """Say why an adapter cannot be the tuned memory, as far as its options show.

    Args:
        kind: PEFT's name of its type, in lower case.
        options: anything with PEFT's options as attributes.

    Returns:
        The reason; None for one that can.
    """
    if kind in NOT_INNER:
        return NOT_INNER[kind]
    if getattr(options, "is_prompt_learning", False):
        return PROMPTS
    start = str(getattr(options, "init_lora_weights", "")).lower()
    if start.startswith(STARTS):
        return f"init_lora_weights: {start}: {REWRITES}"
    if getattr(options, "layer_replication", None):
        return "layer_replication makes another, deeper model of the base"
    if getattr(options, "bias", "none") not in ("none", None, False, True):
        return f"bias: {getattr(options, 'bias', None)}: {REWRITES}"
    return None
