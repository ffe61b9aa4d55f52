"""What a proposed preset does against forgetting, by what the user has: known rows, general text, or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cli.proposing.model import Model

SHARE = 0.5  # of known facts or general texts that may be replayed; the rest measures what is lost
SEQUENCES, TOKENS = 1024, 48  # that the base writes itself
OWN = {"distill": {"on": "self"}}
PLAIN = "without `preserve` it is plain training"
STRENGTH = 0.1  # of the anchor, as docs/evidence-preserve.md has it


@dataclass(frozen=True)
class Keeping:
    """What goes into a preset.

    Args:
        replay: `prepare.replay`.
        rehearse: `rehearse`.
        preserve: of every run whose method changes weights.
        why: in a sentence.
        cost: what plain runs learned and forgot beside such ones in docs/evidence-preserve.md.
    """

    replay: dict[str, float]
    rehearse: dict[str, Any] | None
    preserve: dict[str, Any]
    why: str
    cost: str

    @property
    def of_prefix(self) -> dict[str, Any]:
        """`preserve` of a run whose method changes no weight, so that an anchor holds nothing."""
        return OWN if "anchor" in self.preserve else self.preserve


def what_to_keep(kind: str, model: Model, *, known: bool) -> Keeping:
    """Choose by the task and by what there is.

    Where the base can write, general text is only measured on: at equal learning, distillation on it forgets more than
    distillation on what the base writes (docs/evidence-preserve.md).

    Args:
        kind: of the task.
        model: which is fine-tuned.
        known: whether there are rows that it knows.
    """
    start = _writes_from_nothing(model)
    tokens = min(TOKENS, model.card.get("context") or TOKENS)
    rehearsal = {"sequences": SEQUENCES, "max_tokens": tokens, "prompt": "start" if start else "few_shot"}
    if kind != "knowledge":
        why = "half of the general text holds the states to the base's, and the other half measures how far they move"
        return Keeping({"known": 0, "text": SHARE}, None, {"distill": {"on": "text"}}, why, PLAIN)
    if known:
        why = "half of the known facts are replayed; the model is held to its base there, and on what it writes itself"
        preserve = {"replay": {"from": "known"}, "distill": {"on": ["replay", "self"]}}
        return Keeping({"known": SHARE, "text": 0}, rehearsal, preserve, why, plain_beside("5 to 15", "50 to 53"))
    if not start:
        why = "the model is held to its base on half of the general text, and the other half measures"
        return Keeping({"known": 0, "text": SHARE}, None, {"distill": {"on": "text"}}, why, plain_beside("1.5", "13"))
    why = (
        "without known rows, the weights that matter for what the base writes itself are held the most; with a smaller "
        "`weight` of `anchor` a run learns and forgets more"
    )
    anchor = {"anchor": {"form": "ewc", "weight": STRENGTH}}
    return Keeping({"known": 0, "text": 0}, rehearsal, anchor, why, plain_beside("6 to 27", "23 to 51"))


def plain_beside(learned: str, forgotten: str) -> str:
    """Say what LoRA did without `preserve`, at the same rate."""
    return f"plain LoRA learned {learned} points more and forgot {forgotten} more in docs/evidence-preserve.md"


def _writes_from_nothing(model: Model) -> bool:
    """Tell whether a model has a start token; one that is still to be fetched is taken to have one."""
    from knowtune.models.checkpoint_files import load_tokenizer
    from knowtune.preserve.rehearse import start_token

    return model.folder is None or start_token(load_tokenizer(model.folder), model.folder) is not None
