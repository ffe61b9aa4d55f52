"""The arms: a method, what it preserves by and its plain rivals; and what is trained of them, the most wanted first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from benchmarks.preserve_evidence.interpolations import MIXTURES

L2, EWC = 0.003, 0.1  # strengths of anchors
REPLAY = {"from": "known", "share": 0.5}
OWN = {"distill": {"on": "self", "share": 0.5}}
BOTH = {"replay": REPLAY, "distill": {"on": ["replay", "self"], "share": 0.5}}


def ewc(weight: float) -> dict[str, Any]:
    """Make an anchor by the base's Fisher information about what it wrote itself."""
    return {"anchor": {"form": "ewc", "weight": weight, "from": "self"}}


PRESERVE: dict[str, dict[str, Any]] = {  # parts -> `preserve` of a run
    "plain": {},
    "replay": {"replay": REPLAY},
    "self": OWN,
    "text": {"distill": {"on": "text", "share": 0.5}},
    "known": {"distill": {"on": "known", "share": 0.5}},
    "l2": {"anchor": {"form": "l2", "weight": L2}},
    "ewc": ewc(EWC),
    "firm ewc": ewc(3 * EWC),
    "strong ewc": ewc(10 * EWC),
    "replay + self": {"replay": REPLAY} | OWN,
    "replay + distil both": BOTH,
    "replay + distil both twice": {
        "replay": REPLAY,
        "distill": OWN["distill"] | {"on": ["replay", "self"], "weight": 2.0},
    },
    "more replay + distil both": {
        "replay": {"from": "known", "share": 1.0},
        "distill": {"on": ["replay", "self"], "share": 0.25},
    },
    "more replay + self + ewc": {
        "replay": {"from": "known", "share": 1.0},
        "distill": {"on": "self", "share": 0.25},
    }
    | ewc(EWC),
    "replay + ewc": {"replay": REPLAY} | ewc(EWC),
    "self + ewc": OWN | ewc(EWC),
    "replay + distil both + ewc": BOTH | ewc(EWC),
}
WHOLE = "replay + distil both + ewc"
WITHOUT = {
    "replay": "self + ewc",
    "distillation": "replay + ewc",
    "the anchor": "replay + distil both",
}  # WHOLE less one
PROTECT_SAMPLES = {"self": 512, "known": 200}  # sequences of a source that Fisher information is taken on, at most
METHODS: dict[str, tuple[str, dict[str, Any]]] = {  # the page's name -> the member and its options
    "lora": ("lora", {"rank": 16, "alpha": 32.0}),
    "full": ("full", {}),
    "mask": ("fish", {}),
    "wide mask": ("fish", {}),
}
BUDGETS = {"mask": 0.1, "wide mask": 0.3}  # share of all parameters that a mask has


@dataclass(frozen=True)
class Arm:
    """A method and what is done against forgetting.

    Args:
        method: a name in METHODS.
        parts: what the page calls it, beside the method.
        preserve: as of a run.
        selector: the strategy that chooses a mask, and its options beside the budget.
        protect: as of a selection; see `protection`.
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

    @property
    def protection(self) -> dict[str, Any] | None:
        """Give the options of `protect`, without a contrast's share: no code reads it, but finished keys hold it."""
        if self.protect is None or self.protect.get("form") != "contrast":
            return None if self.protect is None else dict(self.protect)
        return {key: value for key, value in self.protect.items() if key != "share"}


@dataclass(frozen=True)
class Averaged(Arm):
    """Trainings that differ by their seed alone, averaged; the first of them is that of the arm alone.

    Args:
        copies: how many.
    """

    copies: int = 3

    @property
    def name(self) -> str:
        """Name it apart from one training."""
        return f"{super().name}, {self.copies} averaged"

    @property
    def alone(self) -> Arm:
        """The arm of which several trainings are averaged."""
        return Arm(**{each.name: getattr(self, each.name) for each in fields(Arm)})


@dataclass(frozen=True)
class Part:
    """Trainings of some arms.

    Args:
        arms: that are trained.
        rates: learning rates, in ascending order, which every seed trains at.
        mixed: whether what is trained at the last rate is mixed with its base, too.
    """

    arms: Sequence[Arm]
    rates: tuple[float, ...]
    mixed: bool = False


def of_parts(method: str, *names: str) -> list[Arm]:
    """Make arms of a method from names in PRESERVE."""
    return [Arm(method, name, PRESERVE[name]) for name in names]


def averaged(arm: Arm) -> list[Arm]:
    """Make the arm that averages several trainings of another one, and leave that beside it."""
    return [Averaged(**vars(arm)), arm]


def masked(
    method: str, selector: str, share: float | None = None, *sources: str, form: str = "exclude", parts: str = ""
) -> Arm:
    """Make an arm that trains a mask, of which a share is protected by Fisher information on sources.

    Args:
        method: mask or wide mask.
        selector: the strategy that chooses it.
        share: of the entries that no mask may have; None: nothing is protected.
        sources: of what must stay.
        form: exclude, or contrast.
        parts: a name in PRESERVE, of what is done against forgetting beside.
    """
    if share is None:
        return Arm(method, selector, selector=selector)
    samples = min(PROTECT_SAMPLES[source] for source in sources)
    protect = {"from": list(sources), "share": share, "form": form, "samples": samples}
    names = [selector, "contrast" if form == "contrast" else f"{share:.0%} protected, {' + '.join(sources)}"]
    name = " + ".join([", ".join(names), *([parts] if parts else [])])
    return Arm(method, name, PRESERVE[parts] if parts else {}, selector, protect)


def rivals(method: str) -> list[Arm]:
    """Make the arms that need no preservation."""
    return [
        Arm(method, "half of the epochs", epochs=0.5),
        Arm(method, "best epoch", best=True),
        Arm(method, "FLOW", reweight={"form": "flow"}),
    ]


def protected(method: str) -> list[Arm]:
    """Make the arms of a mask beyond a random one with and without protection, the most wanted first."""
    half = (0.5, "self")
    return [
        masked(method, "fish"),
        masked(method, "fish", *half),
        masked(method, "random", *half, parts="replay + distil both"),
        masked(method, "random", *half, "known"),
        masked(method, "fish", *half, form="contrast"),
        masked(method, "random", 0.3, "self"),
        masked(method, "random", *half, parts="self"),
        masked(method, "magnitude"),
        masked(method, "magnitude", *half),
    ]


# task -> method -> rates of plain training; what is preserved is trained at the last two
RATES: dict[str, dict[str, tuple[float, ...]]] = {
    "embedded": {
        "lora": (5e-4, 1e-3, 2e-3, 4e-3),
        "full": (1e-4, 2e-4, 4e-4, 8e-4),
        "mask": (2e-3, 4e-3),
        "wide mask": (1e-3, 2e-3),
    },
    "stories3m-facts": {
        "lora": (2.5e-4, 5e-4, 1e-3, 2e-3),
        "full": (4e-5, 7.5e-5, 1.5e-4, 3e-4),
        "mask": (5e-4, 1e-3, 2e-3),
    },
}
HIGHER = {"embedded": {"lora": (8e-3,), "full": (1.6e-3,)}}  # of plain training beside; not mixed
SHIPPED = (1e-4, 1.25e-4, 1.5e-4)  # rates of the larger task's arm with most of everything
AVERAGED = SHIPPED[1:]  # the same, of the arm whose trainings are averaged
FIRM = (2e-4, 2.5e-4, 3e-4)  # and of that without data: a firmer anchor slows learning
COMBINED = ("replay", "l2", "ewc", "replay + ewc", "self + ewc", WHOLE)
ANCHORED = ("ewc", "replay + ewc", "self + ewc", WHOLE)
ANCHORED_RATE = 1.6e-3  # an anchor slows learning: at a higher rate its arms learn as much as the others


def embedded() -> list[Part]:
    """List what is trained of the smaller task: all arms."""
    rates = RATES["embedded"]
    lora, full, mask, wide = (rates[method][-2:] for method in METHODS)
    core = [masked("mask", "random"), masked("mask", "random", 0.5, "self")]
    return [
        Part(of_parts("lora", "plain"), rates["lora"], mixed=True),
        Part(of_parts("lora", "plain"), HIGHER["embedded"]["lora"]),
        Part(of_parts("lora", "self", "replay + distil both"), lora),
        Part(core, mask),
        Part(of_parts("full", "plain"), rates["full"], mixed=True),
        Part(of_parts("full", "plain"), HIGHER["embedded"]["full"]),
        Part(of_parts("full", "self", "replay + distil both", "replay + distil both twice"), full),
        Part(of_parts("full", *COMBINED, "strong ewc"), full),
        Part(of_parts("full", *ANCHORED), (ANCHORED_RATE,)),
        Part([*rivals("lora"), *of_parts("lora", "ewc", "strong ewc")], lora),
        Part(rivals("full"), full),
        Part(protected("mask"), mask),
        Part([replace(arm, method="wide mask") for arm in core], wide),
        Part(of_parts("lora", *COMBINED), lora),
        Part(of_parts("lora", "text", "known", "replay + self"), lora),
    ]


def stories() -> list[Part]:
    """List what is trained of the larger task: the arms most asked for."""
    rates = RATES["stories3m-facts"]
    lora, full = (rates[method][-2:] for method in ("lora", "full"))
    half = (0.5, "self")
    masks = [masked("mask", "random"), masked("mask", "random", *half), masked("mask", "random", *half, parts="self")]
    without_data = of_parts("full", "self", "ewc", "self + ewc")
    return [
        Part(of_parts("lora", "plain"), rates["lora"], mixed=True),
        Part(of_parts("full", "more replay + distil both"), SHIPPED),
        Part(of_parts("full", "strong ewc"), (2e-4, 3e-4)),
        Part(of_parts("full", "plain"), rates["full"]),
        Part(without_data, rates["full"][:3]),
        Part(masks, rates["mask"]),
        Part(of_parts("full", "replay + distil both"), full),
        Part(of_parts("lora", "self", "ewc", "replay + distil both"), lora),
        Part(rivals("lora"), lora),
        Part(of_parts("full", "replay", "replay + ewc", WHOLE), full),
        Part(averaged(*of_parts("full", "more replay + self + ewc")), AVERAGED),
        Part(averaged(*of_parts("full", "firm ewc")), FIRM),
        Part([Averaged("lora", "plain")], rates["lora"][1:3]),
    ]


PARTS = {"embedded": embedded(), "stories3m-facts": stories()}


def arms_of(task: str) -> dict[str, Arm]:
    """List all arms of a task by name."""
    return {arm.name: arm for part in PARTS[task] for arm in part.arms}


def order_of(parts: Sequence[Part], methods: Iterable[str] = METHODS) -> list[str]:
    """List the names of a task's arms in the order of the page: by method, each followed by its mixtures."""
    names = []
    for method in methods:
        for part in parts:
            for arm in part.arms:
                if arm.method == method and arm.name not in names:
                    names += [arm.name, *(f"{arm.name}, {kind}" for kind in MIXTURES if part.mixed)]
    return names
