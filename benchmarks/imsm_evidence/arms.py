"""The arms: an adapter alone and woven with the base, the gate's ablations, and what else keeps what was known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.preserve_evidence.arms import PRESERVE, Arm, Part

METHODS: dict[str, tuple[str, dict[str, Any]]] = {  # the page's name -> the member and its options
    "lora": ("lora", {"rank": 16, "alpha": 32.0}),
    "kasa": ("kasa", {"rank": 16, "alpha": 32.0}),
    "ia3": ("peft", {"type": "ia3"}),
    "dora": ("peft", {"type": "lora", "r": 16, "lora_alpha": 32, "target_modules": "all-linear", "use_dora": True}),
    "adalora": (
        "peft",
        {"type": "adalora", "init_r": 24, "target_r": 16, "lora_alpha": 32, "target_modules": "all-linear",
         "orth_reg_weight": 0.5},
    ),
}  # fmt: skip
FAST = 0.03  # learning rate of a fast gate; the paper's code has 0.001
BOTH, MORE = "replay + distil both", "more replay + distil both"
GATES: dict[str, dict[str, Any]] = {  # the page's name -> options of IMSM
    "woven": {},
    "woven, fast gate": {"gate_learning_rate": FAST},
    "woven, fast gate without query": {"gate_learning_rate": FAST, "gate": "token"},
    "woven, without gate": {"gate": "fixed"},
}


@dataclass(frozen=True)
class WovenArm(Arm):
    """An arm whose adapter may be woven with the base.

    Args:
        woven: options of IMSM; None: the adapter alone.
    """

    woven: Mapping[str, Any] | None = None


def alone(method: str, *names: str) -> list[Arm]:
    """Make arms of an adapter alone, of names in PRESERVE."""
    return [WovenArm(method, name, PRESERVE[name]) for name in names]


def woven(method: str, *names: str, parts: str = "") -> list[Arm]:
    """Make arms of a woven adapter, of names in GATES.

    Args:
        method: the inner one.
        names: of gates.
        parts: a name in PRESERVE, of what is done against forgetting beside.
    """
    suffix, preserve = (f" + {parts}", PRESERVE[parts]) if parts else ("", {})
    return [WovenArm(method, name + suffix, preserve, woven=GATES[name]) for name in names]


# task -> inner method -> learning rates
RATES: dict[str, dict[str, tuple[float, ...]]] = {
    "embedded": {
        "lora": (1e-3, 2e-3, 4e-3),
        "kasa": (2e-3, 4e-3),
        "ia3": (1e-2, 3e-2),
        "dora": (2e-3, 4e-3),
        "adalora": (8e-3, 1.6e-2),
    },
    "stories3m-facts": {"lora": (2.5e-4, 5e-4, 1e-3)},
}
HIGH = (1e-3, 2e-3)  # rates of the larger task's arms that are preserved most


def embedded() -> list[Part]:
    """List what is trained of the smaller task: all arms."""
    rates = RATES["embedded"]
    others = [method for method in METHODS if method != "lora"]
    return [
        Part(alone("lora", "plain"), rates["lora"], mixed=True),
        Part(woven("lora", "woven", "woven, fast gate"), rates["lora"]),
        *(Part([*alone(of, "plain"), *woven(of, "woven, fast gate")], rates[of]) for of in others),
        Part(woven("lora", "woven, fast gate without query", "woven, without gate"), rates["lora"]),
        Part([*alone("lora", BOTH), *woven("lora", "woven, fast gate", parts=BOTH)], rates["lora"][-2:]),
    ]


def stories() -> list[Part]:
    """List what is trained of the larger task: the arms most asked for."""
    rates = RATES["stories3m-facts"]["lora"]
    return [
        Part(alone("lora", "plain"), rates, mixed=True),
        Part(woven("lora", "woven, fast gate", "woven"), rates),
        Part([*alone("lora", BOTH), *woven("lora", "woven, fast gate", parts=BOTH)], rates[-2:]),
        Part([*alone("lora", MORE), *woven("lora", "woven, fast gate", parts=MORE)], HIGH),
    ]


PARTS = {"embedded": embedded(), "stories3m-facts": stories()}
