"""The arms: adapters of equal rank, virtual tokens of equal number, full fine-tuning; and what is trained of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LOW_RANK, PARTS, VIRTUAL, ALL = "low rank", "parts of KaSA", "virtual tokens", "all weights"
FULL = "full fine-tuning"
RANK: dict[str, Any] = {"rank": 16, "alpha": 32.0}
PEFT_LORA = {"type": "lora", "r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
TEXTS = {  # what SK-Tuning and PEFT's starts from text read; PEFT's random ones are as many tokens
    "embedded": "Answer the question about a person, a town or a thing.",
    "pararel": "Complete the sentence with a fact about a person, a town or a thing.",
    "sst2": "Classify the text as negative or positive, text: ",
}


@dataclass(frozen=True)
class Arm:
    """A method.

    Args:
        name: as the page calls it.
        family: the arms that it is held against.
        method: a member of the pipeline's methods, or MODULE:CLASS of one that is not.
        options: its own.
        reads: whether it is given the task's text.
        counts: whether it is given the number of the text's tokens.
        only: the tasks that it can be trained on; empty: all.
    """

    name: str
    family: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    reads: bool = False
    counts: bool = False
    only: tuple[str, ...] = ()


def _rival(name: str) -> str:
    return f"benchmarks.methods_evidence.rivals:{name}"


def _sk(variant: str, form: str) -> Arm:
    name = f"SK {variant}" + (", released" if form == "released" else "")
    return Arm(name, VIRTUAL, "sk_tuning", {"variant": variant, "form": form}, reads=True)


KNOWLEDGE = ("embedded", "pararel")
ARMS = [
    Arm("LoRA", LOW_RANK, "lora", RANK),
    Arm("KaSA", LOW_RANK, "kasa", RANK),
    _sk("prefix", "paper"),
    _sk("prompt", "paper"),
    Arm("PiSSA", LOW_RANK, "peft", PEFT_LORA | {"init_lora_weights": "pissa"}),
    Arm("DoRA", LOW_RANK, "peft", PEFT_LORA | {"use_dora": True}),
    Arm("OFT", LOW_RANK, "peft", {"type": "oft", "oft_block_size": 64, "target_modules": "all-linear"}),
    Arm("prefix tuning", VIRTUAL, "peft", {"type": "prefix_tuning"}, counts=True, only=KNOWLEDGE),
    Arm("prefix tuning from text", VIRTUAL, _rival("TextPrefix"), {"type": "prefix_tuning"}, True, True, KNOWLEDGE),
    Arm("prompt tuning", VIRTUAL, "peft", {"type": "prompt_tuning"}, counts=True),
    Arm("prompt tuning from text", VIRTUAL, _rival("TextPrompt"), {"type": "prompt_tuning"}, True, True),
    Arm("p-tuning", VIRTUAL, "peft", {"type": "p_tuning", "encoder_hidden_size": 64}, counts=True),
    _sk("prefix", "released"),
    Arm("KaSA without truncation", PARTS, _rival("Untruncated"), RANK),
    Arm("KaSA without singular values", PARTS, _rival("Unscaled"), RANK),
    Arm("KaSA without penalty on ds", PARTS, "kasa", RANK | {"beta": 0.0}),
    Arm("KaSA without penalty on A and B", PARTS, "kasa", RANK | {"gamma": 0.0}),
    Arm("PEFT's KaSA", LOW_RANK, _rival("PeftKasa"), RANK),
    _sk("prompt", "released"),
    Arm(FULL, ALL, "full"),
]
LADDER: dict[str, tuple[float, ...]] = {  # kind of arm -> all learning rates that one may be trained at
    LOW_RANK: (6.25e-5, 1.25e-4, 2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2),
    VIRTUAL: (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 9e-1),  # a recipe takes rates below 1
    ALL: (1.25e-5, 2.5e-5, 5e-5, 1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3, 3.2e-3),
}
RATES: dict[str, dict[str, tuple[float, ...]]] = {  # task -> kind of arm -> those that all arms of it begin with
    "embedded": {LOW_RANK: (2e-3, 4e-3, 8e-3), VIRTUAL: (1e-2, 3e-2, 1e-1), ALL: (4e-4, 8e-4, 1.6e-3)},
    "pararel": {LOW_RANK: (5e-4, 1e-3, 2e-3), VIRTUAL: (1e-2, 3e-2, 1e-1), ALL: (1e-4, 2e-4, 4e-4)},
    "sst2": {LOW_RANK: (5e-4, 1e-3, 2e-3), VIRTUAL: (3e-3, 1e-2, 3e-2), ALL: (5e-5, 1e-4, 2e-4)},
}
FEW = 3  # seeds that all arms get before any gets the rest


def ladder_of(name: str) -> tuple[float, ...]:
    """Give all learning rates that an arm may be trained at."""
    return LADDER[next(_kind(arm) for arm in ARMS if arm.name == name)]


def _kind(arm: Arm) -> str:
    """Name the kind whose rates an arm has; parts of KaSA have those of low rank."""
    return LOW_RANK if arm.family == PARTS else arm.family


def grid(arm: Arm, task: str, best: Callable[[Sequence[float]], float | None]) -> tuple[float, ...]:
    """Give the learning rates that an arm's is chosen among: more of the ladder, until the best has one on either side.

    Args:
        arm: the arm.
        task: its name.
        best: gives the best of some rates; None where one of them is not trained yet.

    Returns:
        Rates in ascending order.
    """
    kind = _kind(arm)
    ladder, start = LADDER[kind], RATES[task][kind]
    low, high = ladder.index(start[0]), ladder.index(start[-1]) + 1
    while (chosen := best(ladder[low:high])) is not None:
        if chosen == ladder[low] and low > 0:
            low -= 1
        elif chosen == ladder[high - 1] and high < len(ladder):
            high += 1
        else:
            break
    return ladder[low:high]


def arms_of(task: str) -> list[Arm]:
    """List the arms of a task, the most wanted first."""
    return [arm for arm in ARMS if not arm.only or task in arm.only]
