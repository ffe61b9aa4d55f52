"""From params to the library's objects: the task and the base."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from knowtune.checkpoints.base import Base
from knowtune.registry import member_class
from knowtune.tasks import TASKS
from stages.core.compute import compute_of

if TYPE_CHECKING:
    from knowtune.tasks.base import Task
    from stages.core.schema import Params


def task_of(params: Params) -> Task:
    """Make the task from its name and options."""
    task: Task = member_class(TASKS, "task", params.task.kind)(**params.task.member_options())
    return task


def open_base(params: Params, artefact: Path) -> Base:
    """Open the base that the base stage wrote or described."""
    return Base.open(artefact, Path(params.base.path), compute_of(params), task_of(params))
