"""Does it help to drop or to re-weight rows by semantic distance, and what does it cost in what was known?

Wrong targets are injected into a share of the training rows. Every arm is a method, a filter and a weighting; all arms
of a method take the same learning rate and the same number of optimiser steps. Five seeds each:

    make run                                                  # base and rows of the embedded task
    python -m benchmarks.beacons_evidence --work W --task embedded
    python -m benchmarks.beacons_evidence --work W --data FOLDER --task pararel
    python -m benchmarks.beacons_evidence --work W --page

FOLDER holds models/, facts/ and text/, see presets/pararel.yaml. Every finished training is a line in W: a killed run
goes on. A process uses one thread; tasks can run side by side, one process each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.evidence.command import run

TASKS = ("embedded", "pararel")


def run_task(name: str, args: argparse.Namespace) -> None:
    """Do what is left of a task."""
    from benchmarks.beacons_evidence.bench import BeaconsBench, without_noise
    from benchmarks.evidence.materials import material

    task = without_noise(material(name, args.project, args.data or Path()), args.project)
    BeaconsBench(task, args.work, args.seeds).run()


def write_page(work: Path, docs: Path) -> None:
    """Write docs/evidence-beacons.md."""
    from benchmarks.beacons_evidence.page import write_page

    write_page(work, docs)


if __name__ == "__main__":
    run(__doc__, TASKS, run_task, write_page)
