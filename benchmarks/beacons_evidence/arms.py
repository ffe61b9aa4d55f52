"""What is compared: filters, weightings, methods, and which of their combinations are trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FILTERS: dict[str, dict[str, dict[str, Any]]] = {  # name -> strategy -> options
    "all rows": {},
    "nearest": {"nearest": {"keep": 0.8}},
    "band": {"band": {"lo": 0.0, "hi": 0.9}},
    "mean_variance": {"mean_variance": {"keep": 0.8, "spread": 1.0}},
    "interference": {"interference": {"keep": 0.8}},
}
WEIGHTINGS: dict[str, dict[str, Any] | None] = {
    "even": None,
    "far more": {"form": "linear", "alpha": 0.5},
    "near more": {"form": "linear", "alpha": -0.5},
    "near more, exponential": {"form": "exponential", "alpha": -2.0},
    "far tokens more": {"form": "linear", "alpha": 0.5, "granularity": "token"},
    "near more, refreshed": {"form": "linear", "alpha": -0.5, "refresh_steps": 50},
}
METHODS: dict[str, dict[str, Any]] = {  # name -> method, type and options
    "lora": {"method": "lora", "options": {"rank": 16, "alpha": 32.0}},
    "kasa": {
        "method": "peft",
        "options": {"type": "lora", "r": 16, "lora_alpha": 32, "target_modules": "all-linear", "kasa_config": {}},
    },
    "fish": {"method": "fish", "options": {}},  # a tenth of the linear layers' parameters, by Fisher information
}
RATES: dict[str, tuple[float, ...]] = {"embedded": (0.0, 0.1, 0.3), "pararel": (0.0, 0.1, 0.3)}  # of wrong targets
GRID = (6e-4, 2e-3, 6e-3)
SKETCH = {"dimensions": 2048, "seed": 0}
PLAIN = ("all rows", "even")


@dataclass(frozen=True)
class Arm:
    """One combination."""

    method: str
    filter: str
    weighting: str

    @property
    def name(self) -> str:
        """Name what differs from plain training."""
        parts = [part for part, plain in zip((self.filter, self.weighting), PLAIN, strict=True) if part != plain]
        return " + ".join(parts) or "plain"


def arms() -> list[Arm]:
    """List the combinations: for LoRA each filter and each weighting by itself and two of both, else a choice."""
    alone = [Arm("lora", name, "even") for name in FILTERS]
    alone += [Arm("lora", "all rows", name) for name in WEIGHTINGS if name != "even"]
    both = [Arm("lora", "nearest", "near more"), Arm("lora", "nearest", "far more")]
    others = [("all rows", "even"), ("nearest", "even"), ("all rows", "near more"), ("all rows", "far more")]
    return [*alone, *both, *(Arm(method, *each) for method in ("kasa", "fish") for each in others)]


CURVES: dict[str, tuple[float, ...]] = {  # task -> rates beside the chosen one, so that an arm's forgetting is a curve
    "embedded": (2e-3, 4e-3),
    "pararel": (1.4e-3,),
}
CURVED = (Arm("lora", *PLAIN), Arm("lora", "all rows", "near more"), Arm("lora", "nearest", "even"))
