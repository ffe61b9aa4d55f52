"""What DVC knows: the stages, what each needs, what has changed.

DVC's Python interface is not safe among threads, so all is asked before the first stage starts, and from one thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import chdir, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowtune.common.errors import UserError, unknown
from stages.core.lock import mend_lock


@dataclass(frozen=True)
class Node:
    """A stage of the graph."""

    address: str  # as DVC names it; a member of a family is FAMILY@MEMBER
    needs: tuple[str, ...]  # the stages whose outs it reads
    changed: bool  # its inputs, outs or command differ from what dvc.lock remembers
    metrics: tuple[Path, ...] = ()  # its outs that dvc.yaml declares as metrics


def read_graph(folder: Path, targets: Sequence[str] = ()) -> list[Node]:
    """Ask DVC for the stages to reproduce, in the order in which `dvc repro` would run them.

    Args:
        folder: the project or a workspace.
        targets: stages or families; all stages when empty. What they need belongs to the graph too.

    Raises:
        UserError: DVC cannot say, for dvc.yaml is broken, a target is unknown, or another process holds its lock.
    """
    from dvc.exceptions import DvcException, NoOutputOrStageError
    from dvc.repo import Repo
    from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro
    from dvc.stage.exceptions import StageNotFound

    known: list[str] = []
    try:
        # DVC reads and writes the names of stages as seen from where one stands, which for a workspace is elsewhere
        with chdir(folder), Repo() as repo, repo.lock:
            graph = get_active_graph(repo.index.graph)
            known = [stage.addressing for stage in repo.index.stages]
            names = list(targets) or ["dvc.yaml"]
            return [_node(stage, graph) for stage in plan_repro(graph, collect_stages(repo, names))]
    except (StageNotFound, NoOutputOrStageError) as error:
        raise unknown("stage", _first_unknown(targets, known), known) from error
    except DvcException as error:
        raise UserError(f"dvc: {_reason(error)}") from error


def _first_unknown(targets: Sequence[str], known: Sequence[str]) -> str:
    """Return the target that is neither a stage nor a family."""
    names = {*known, *(name.partition("@")[0] for name in known)}
    return next((target for target in targets if target not in names), ", ".join(targets))


def _node(stage: Any, graph: Any) -> Node:
    """Take from DVC's stage what is needed, and nothing that has to be asked again."""
    return Node(
        address=stage.addressing,
        needs=tuple(sorted(need.addressing for need in graph.successors(stage))),
        changed=stage.changed(),
        metrics=tuple(Path(out.fs_path) for out in stage.outs if out.metric),
    )


def mend_lock_in_turn(folder: Path) -> None:
    """Mend dvc.lock while no DVC process writes it; where there is no copy, DVC says what is wrong with it."""
    from dvc.lock import make_lock

    with make_lock(str(folder / ".dvc/tmp/lock"), wait=True), suppress(UserError):
        mend_lock(folder)


def _reason(error: BaseException) -> str:
    """Join what DVC says with what it says below, which is where the cause stands."""
    texts: list[str] = []
    below: BaseException | None = error
    while below is not None:
        if (text := str(below).strip()) and text not in texts:
            texts.append(text)
        below = below.__cause__
    return ": ".join(texts)
