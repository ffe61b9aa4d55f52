"""How a stage and the whole ended, as states of Prefect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefect.client.schemas.objects import State, StateDetails, StateType
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed

from flows.processes import Outcome

Future = PrefectFuture[State[None]]
NAMES = {"ran": "Completed", "cached": "Cached", "unchanged": "Skipped", "stopped": "Interrupted"}
NOTES = {
    "cached": "DVC had the result of an earlier run",
    "unchanged": "up to date",
    "stopped": "interrupted; what is finished is kept, the same command goes on from there",
    "failed": "failed",
    "killed": "its process was killed",
    "busy": "another process held DVC's lock",
    "unreachable": "the network failed",
    "cut": "dvc.lock was cut short, as by a kill of DVC",
}
PASSING = ("Killed", "Busy", "Unreachable", "Cut")  # names of failed states that another try may mend
WORDS = {"Completed": "ran", "Cached": "from DVC's cache", "Skipped": "up to date", "NotRun": "not run"}


@dataclass(frozen=True)
class Line:
    """How one stage went."""

    stage: str
    state: str
    seconds: float
    note: str
    good: bool


def state_of(address: str, outcome: Outcome) -> State[None]:
    """Say how a stage's process ended."""
    note = NOTES.get(outcome.kind)
    if outcome.kind == "stopped":
        return interruption()
    if outcome.kind in NAMES:
        return Completed(name=NAMES[outcome.kind], message=note)
    message = f"{address}: {note}; its last lines:\n{outcome.last_lines}"
    return Failed(name=outcome.kind.capitalize(), message=message)


def worth_another_try(_task: object, _run: object, state: State[Any]) -> bool:
    """Tell whether another try may help: after a kill, a lock, the network; never after an error of the user's."""
    return state.name in PASSING


def interruption() -> State[None]:
    """Say that a person, or the system, ended it."""
    return State(type=StateType.CANCELLED, name=NAMES["stopped"], message=NOTES["stopped"])


def arrow_from(future: Future) -> State[Any]:
    """Point to a task run that has ended, well or not: that draws an arrow on the page and holds nothing up.

    Prefect lets no task start after one that was cancelled, and here some have to: they say that they do not run.
    """
    return Completed(data=True, state_details=StateDetails(task_run_id=future.task_run_id))  # type: ignore[attr-defined]


def whole(lines: Sequence[Line]) -> State[None]:
    """Say how the whole went: the stages that failed with their last lines, and what to do."""
    failed = [line for line in lines if not line.good and line.state != "NotRun"]
    if not failed:
        return Completed(message=summary(lines))
    texts = "\n\n".join(line.note for line in failed)
    what = "What is finished is kept: mend this, and run the same command again."
    return Failed(message=f"{summary(lines)}\n\n{texts}\n\n{what}")


def summary(lines: Sequence[Line]) -> str:
    """Count the stages by how they ended."""
    counts = Counter(line.state for line in lines)
    return "stages: " + ", ".join(f"{count} {WORDS.get(state, state.lower())}" for state, count in counts.items())
