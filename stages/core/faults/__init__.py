"""Find every fault of a params file at once: shape, names that do not exist, options, and what does not fit together.

The checks are independent of each other and work on the raw mapping without what has the wrong shape, so that one fault
does not hide another. What a member of a family demands of the params around it, it says itself (`Member.demands`).
"""

from __future__ import annotations

from typing import Any

from knowtune.common.errors import Problem
from stages.core.faults.anchors import check_anchors
from stages.core.faults.filters import check_filters
from stages.core.faults.hub import check_hub
from stages.core.faults.keeping import check_keeping
from stages.core.faults.members import Members
from stages.core.faults.mixtures import check_mixtures
from stages.core.faults.names import check_names
from stages.core.faults.paths import check_paths
from stages.core.faults.promote import check_promote
from stages.core.faults.retention import check_retention
from stages.core.faults.runs import check_runs
from stages.core.faults.selections import check_selections
from stages.core.faults.source import check_source
from stages.core.faults.task import check_task
from stages.core.plain import unplain
from stages.core.renamed import rename_keys
from stages.core.schema import Params
from stages.core.shape import check_shape

RAW = (check_paths, check_names, check_hub, check_source, check_task, check_keeping, check_retention, check_promote)
OPENED = (check_filters, check_selections, check_runs, check_anchors, check_mixtures)


def faults_of(raw: dict[str, Any], *, deep: bool) -> list[Problem]:
    """Return every fault of a params mapping, ordered by key.

    Args:
        raw: as read from YAML.
        deep: also check PEFT's own options, which imports PEFT (seconds).
    """
    if odd := list(unplain(raw)):
        return odd  # whatever else is wrong: no further check can rely on such values
    renamed, raw = rename_keys(raw)
    problems, raw = check_shape(raw, Params)
    members = Members(raw, deep=deep)
    problems = [*renamed, *problems, *members.problems]
    for check_raw in RAW:
        problems += check_raw(raw)
    for check_opened in OPENED:
        problems += check_opened(raw, members)
    return sorted(set(problems), key=lambda problem: (problem.where, problem.got, problem.allowed))
