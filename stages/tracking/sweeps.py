"""How a sweep is known in tracking: by the environment of its points' reproductions, and by an entry in the store.

A sweep is one parent run; below it is the reproduction of each point. The sweep's own process is a reproduction of no
stages: it opens a marker, and hands in a last note as others do.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

VARIABLE = "KNOWTUNE_SWEEP"  # tells a point's reproduction which sweep it belongs to


def point_environment(identity: str, name: str, point: str, label: str) -> dict[str, str]:
    """Return the environment of a point's reproduction.

    Args:
        identity: of the sweep, the same when it goes on after a kill.
        name: of the sweep.
        point: what its params are called: equal params, equal name.
        label: its values in a few words.
    """
    return {VARIABLE: json.dumps({"id": identity, "name": name, "point": point, "label": label})}


def sweep_of_environment() -> dict[str, str] | None:
    """Return the sweep that this process's reproduction is a point of."""
    return dict(json.loads(os.environ[VARIABLE])) if os.environ.get(VARIABLE) else None


def entry_of(sweep: Mapping[str, str]) -> str:
    """Return what the run of a sweep, or of one of its points, is found by."""
    return "/".join([sweep["id"], *([sweep["point"]] if "point" in sweep else [])])
