"""The arms: a method, what it preserves by and its plain rivals; and what is trained of them, the most wanted first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.evidence.bench import SEEDS
from benchmarks.preserve_evidence.interpolations import MIXTURES

L2 = 0.003  # strength of anchors; EWC's is scaled so that its mean over all weights is this, too
REPLAY = {"from": "known", "share": 0.5}
PRESERVE: dict[str, dict[str, Any]] = {  # parts -> `preserve` of a run
    "plain": {},
    "replay": {"replay": REPLAY},
    "self": {"distill": {"on": "self", "share": 0.5}},
    "text": {"distill": {"on": "text", "share": 0.5}},
    "known": {"distill": {"on": "known", "share": 0.5}},
    "l2": {"anchor": {"form": "l2", "weight": L2}},
    "ewc": {"anchor": {"form": "ewc", "weight": L2, "from": "self", "samples": 512}},
    "replay + self": {"replay": REPLAY, "distill": {"on": "self", "share": 0.5}},
    "replay + distil both": {"replay": REPLAY, "distill": {"on": ["replay", "self"], "share": 0.5}},
    "replay + l2": {"replay": REPLAY, "anchor": {"form": "l2", "weight": L2}},
    "self + l2": {"distill": {"on": "self", "share": 0.5}, "anchor": {"form": "l2", "weight": L2}},
}
PRESERVE["replay + distil both + l2"] = PRESERVE["replay + distil both"] | PRESERVE["l2"]
PRESERVE["self, stronger"] = {"distill": {"on": "self", "share": 1.0, "weight": 2.0}}
PRESERVE["distil both, stronger"] = {
    "replay": {**REPLAY, "share": 1.0}, "distill": {"on": ["replay", "self"], "share": 1.0, "weight": 2.0},
}  # fmt: skip
WHOLE, NO_DATA = "replay + distil both + l2", "self"
WITHOUT = {"replay": "self + l2", "distillation": "replay + l2", "the anchor": "replay + distil both"}  # WHOLE less one
BUDGET = 0.1  # share of all parameters that a mask has
PROTECT_SAMPLES = 512  # sequences of a source that Fisher information is taken on
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("lora", {"rank": 16, "alpha": 32.0}),
    "full": ("full", {}),
    "mask": ("fish", {}),
}


@dataclass(frozen=True)
class Arm:
    """A method and what is done against forgetting.

    Args:
        method: lora, full or mask.
        parts: what the page calls it, beside the method.
        preserve: as of a run.
        selector: the strategy that chooses a mask, and its options beside the budget.
        protect: as of a selection.
        reweight: as of a run.
        best: whether the epoch with the lowest validation loss is kept.
        epochs: share of the task's epochs that is trained.
    """

    method: str
    parts: str
    preserve: Mapping[str, Any] = field(default_factory=dict)
    selector: str | None = None
    protect: Mapping[str, Any] | None = None
    reweight: Mapping[str, Any] | None = None
    best: bool = False
    epochs: float = 1.0

    @property
    def name(self) -> str:
        """Name it apart from all others."""
        return f"{self.method}: {self.parts}"


@dataclass(frozen=True)
class Part:
    """Trainings of some arms.

    Args:
        arms: that are trained.
        rates: learning rates, in ascending order, which every seed trains at.
        num_seeds: of the results.
        mixed: whether what is trained at the last rate is mixed with its base, too.
    """

    arms: Sequence[Arm]
    rates: tuple[float, ...]
    num_seeds: int = len(SEEDS)
    mixed: bool = False


def of_parts(method: str, *names: str) -> list[Arm]:
    """Make arms of a method from names in PRESERVE."""
    return [Arm(method, name, PRESERVE[name]) for name in names]


def masked(selector: str, share: float | None = None, *sources: str, form: str = "exclude", parts: str = "") -> Arm:
    """Make an arm that trains a mask, of which a share is protected by Fisher information on sources.

    Args:
        selector: the strategy that chooses the mask.
        share: of the entries that no mask may have; None: nothing is protected.
        sources: of what must stay.
        form: exclude, or contrast.
        parts: a name in PRESERVE, of what is done against forgetting beside.
    """
    if share is None:
        return Arm("mask", selector, selector=selector)
    protect = {"from": list(sources), "share": share, "form": form, "samples": PROTECT_SAMPLES}
    names = [selector, "contrast" if form == "contrast" else f"{share:.0%} protected, {' + '.join(sources)}"]
    name = " + ".join([", ".join(names), *([parts] if parts else [])])
    return Arm("mask", name, PRESERVE[parts] if parts else {}, selector, protect)


RIVALS = [
    Arm("lora", "a quarter of the epochs", epochs=0.25),
    Arm("lora", "half of the epochs", epochs=0.5),
    Arm("lora", "best epoch", best=True),
    Arm("lora", "FLOW", reweight={"form": "flow"}),
]
# task -> method -> rates of plain training; what is preserved is trained at the last two
RATES: dict[str, dict[str, tuple[float, ...]]] = {
    "embedded": {"lora": (5e-4, 1e-3, 2e-3, 4e-3), "full": (1e-4, 2e-4, 4e-4, 8e-4), "mask": (5e-4, 1e-3, 2e-3, 4e-3)},
    "stories3m-facts": {
        "lora": (2.5e-4, 5e-4, 1e-3, 2e-3),
        "full": (7.5e-5, 1.5e-4, 3e-4, 6e-4),
        "mask": (5e-4, 1e-3, 2e-3),
    },
}


def parts(task: str) -> list[Part]:
    """List what is trained of a task."""
    rates = RATES[task]
    lora, full, mask = (rates[method][-2:] for method in METHODS)
    return [
        Part(of_parts("lora", "plain"), rates["lora"], mixed=True),
        Part(of_parts("lora", "self", "replay + distil both"), lora),
        Part(of_parts("full", "plain"), rates["full"]),
        Part(of_parts("full", "self", "replay + distil both"), full, mixed=True),
        Part([masked("random"), masked("random", 0.5, "self")], mask),
        Part(of_parts("lora", "replay", "l2", "replay + l2", "self + l2", WHOLE), lora),
        Part(of_parts("full", "replay", "l2", "replay + l2", "self + l2", WHOLE), full),
        Part([masked("fish"), masked("fish", 0.5, "self"), masked("random", 0.5, "self", "known")], mask),
        Part(RIVALS, rates["lora"][-2:], num_seeds=3),
        Part([masked("random", 0.5, "self", parts="self")], mask, num_seeds=3),
        Part(of_parts("lora", "text", "known", "ewc", "replay + self"), lora, num_seeds=3),
        Part([masked("fish", 0.5, "self", form="contrast"), masked("random", 0.3, "self")], mask, num_seeds=3),
        Part([masked("random", 0.7, "self"), masked("magnitude"), masked("magnitude", 0.5, "self")], mask, num_seeds=3),
        Part(of_parts("full", "self, stronger", "distil both, stronger"), full, num_seeds=3),
        Part([masked("random"), masked("fish")], rates["mask"][:-2], num_seeds=3),
    ]


PARTS = {task: parts(task) for task in RATES}


def arms_of(task: str) -> dict[str, Arm]:
    """List all arms of a task by name."""
    return {arm.name: arm for part in PARTS[task] for arm in part.arms}


def order_of(task: str) -> list[str]:
    """List the names of a task's arms in the order of the page: by method, each followed by its mixtures."""
    names = []
    for method in METHODS:
        for part in PARTS[task]:
            for arm in part.arms:
                if arm.method == method and arm.name not in names:
                    names += [arm.name, *(f"{arm.name}, {kind}" for kind in MIXTURES if part.mixed)]
    return names
