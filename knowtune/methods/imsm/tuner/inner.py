"""What an inner adapter and a saved gate must be."""

from __future__ import annotations

from typing import Any

from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner

from knowtune.common.errors import UserError
from knowtune.methods.imsm.tuner.backbone import NAME
from knowtune.methods.imsm.tuner.config import ImsmConfig

GATE = f".{NAME}.imsm_gate."  # in the names of a gate's parameters


def tuner_of(config: PeftConfig) -> Any:
    """Return the tuner of an inner adapter.

    Raises:
        UserError: PEFT has none that weaving can use.
    """
    tuners: dict[Any, Any] = PEFT_TYPE_TO_TUNER_MAPPING
    tuner = tuners.get(config.peft_type)
    name = str(getattr(config.peft_type, "value", config.peft_type)).lower()
    if not isinstance(tuner, type) or not issubclass(tuner, BaseTuner):
        raise UserError(f"IMSM: inner: {name} has no tuner of PEFT's kind; take one that has, e.g. LORA")
    if getattr(tuner, "uses_shared_state", False):
        raise UserError(f"IMSM: inner: {name} keeps weights outside the model's layers, which would not be saved")
    return tuner


def require_gate(config: ImsmConfig, gates: dict[str, Any]) -> None:
    """Refuse a saved adapter without its gate, or with another's.

    Raises:
        UserError: says which shape there is, and which there should be.
    """
    if config.gate == "fixed":
        return
    rank, width = config.gate_rank, config.hidden_size or 0
    inputs = (4 if config.gate == "query" else 2) * width
    wanted = {"down.weight": (rank, inputs), "up.weight": (width, rank)}
    shapes = {key.rpartition(GATE)[2]: tuple(value.shape) for key, value in gates.items()}
    if shapes != wanted:
        got = ", ".join(f"{name} {shape}" for name, shape in sorted(shapes.items())) or "none"
        allowed = ", ".join(f"{name} {shape}" for name, shape in sorted(wanted.items()))
        raise UserError(f"IMSM: the saved adapter has another gate than its config says: got {got}; allowed: {allowed}")
