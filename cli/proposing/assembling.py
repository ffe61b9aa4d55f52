"""Put a preset together: its numbers and metrics, and what of the rows only the user can settle."""

from __future__ import annotations

from typing import Any

from cli.proposing.data import Data
from cli.proposing.guess import Guess
from cli.proposing.keeping import what_to_keep
from cli.proposing.model import Model
from cli.proposing.numbers import numbers_for
from cli.proposing.overrides import Overrides
from cli.proposing.preset import METRICS, OF_KNOWN, OF_LONG, Preset
from cli.proposing.trial import Trial

MAX_REJECTED = 0.01  # never more without a word of the user's
MOSTLY, SELDOM = 0.5, 0.05  # shares of rows whose prompt has several targets: then answers; below, contradictions
LONG = 20  # tokens of a target, from which on exact answers say little


def several_answers(guess: Guess, trial: Trial | None, overrides: Overrides) -> bool:
    """Tell whether rows of one prompt are several right answers, or contradict each other."""
    share = 0.0 if trial is None or guess.task != "knowledge" else trial.several
    if overrides.several is not None:
        return overrides.several
    answers = share >= MOSTLY
    if share:
        words = f"{share:.0%} of the rows share their prompt with rows of other targets, and are taken for "
        words += "several right answers (source.several_answers)" if answers else "contradictions, and not learned"
        (guess.doubts if SELDOM <= share < MOSTLY else guess.notes).append(f"{words}; else SEVERAL={int(not answers)}")
    return answers


def rejected_limit(guess: Guess, trial: Trial | None, given: float | None) -> tuple[float, str]:
    """Choose `prepare.max_rejected`: what is usual or what the user says.

    Returns:
        The share, and why it is not enough, or "".
    """
    limit = MAX_REJECTED if given is None else given
    if trial is None or not (trial.rejected or trial.share):
        return limit, ""
    reasons = "; ".join(f"{count}: {reason}" for reason, count in list(trial.rejected.items())[:3])
    words = f"{trial.share:.1%} of the first rows or general texts are rejected" + f" ({reasons})" * bool(reasons)
    if trial.share <= limit:
        guess.notes.append(words)
        return limit, ""
    enough = min(1.0, round(1.5 * trial.share + 0.01, 2))
    return limit, f"{words}, and `prepare` stops at {limit:.1%}; if that is meant, allow more: REJECTED={enough:g}"


def assemble(
    name: str,
    data: Data,
    guess: Guess,
    task: dict[str, Any],
    model: Model,
    trial: Trial | None,
    text: tuple[str, str],
) -> Preset:
    """Put the preset together."""
    notes = [*guess.notes, *data.unsure]
    kind = str(task["kind"])
    if model.num_parameters is None:
        notes.append("the size of the model is not known; the numbers are those for a large one")
    if kind == "knowledge" and not guess.columns.get("fact", guess.cases) and "test" not in data.files:
        notes.append("no column says which rows are of one fact: generalisation is on prompts never trained")
    metrics, columns = [*METRICS[kind]], guess.columns
    metrics += ["efficacy"] if columns.get("old") else []
    metrics += ["paraphrase_efficacy"] if columns.get("old") and columns.get("paraphrases") else []
    known = bool(columns.get("locality_prompt")) or (kind == "knowledge" and "known" in data.files)
    metrics += OF_KNOWN if known else []
    if kind == "knowledge" and trial is not None and trial.target_tokens > LONG:
        metrics += OF_LONG
        notes.append(f"targets have up to {trial.target_tokens} tokens: exact answers are rare, see {OF_LONG[0]}")
    size = f"{model.millions:.1f} million parameters" if model.millions is not None else "size not known"
    rows = "rows" if data.count is None else f"{data.count:,} rows"
    doubts = [*(f"Not sure: {doubt}." for doubt in guess.doubts), *(f"Note: {note}." for note in notes)]
    return Preset(
        name=name,
        about=[f"`make new` of {data.shown} ({rows}) for {model.shown}, {size}.", *doubts],
        task=task,
        hub={**model.hub, **data.hub},
        data=data.folder,
        text=text[0],
        text_column=text[1],
        files=data.files,
        several_answers=False,
        columns=guess.columns,
        max_rejected=MAX_REJECTED,
        base=model.path,
        metrics=metrics,
        keeping=what_to_keep(kind, model, known=known),
        numbers=numbers_for(
            kind, data.count, model.millions, model.card.get("context"), trial.target_tokens if trial else None
        ),
    )
