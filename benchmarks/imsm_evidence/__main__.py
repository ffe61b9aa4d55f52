"""Does weaving two memories, as IMSM does, keep what the base knew, and at which cost in learning and time?

Adapters are trained alone and woven with the base, with the gate's ablations, beside and together with `preserve`:

    dvc repro prepare                                         # base and rows of the embedded task
    python -m benchmarks.imsm_evidence --work W --task embedded
    python -m benchmarks.imsm_evidence --work W --data FOLDER --task stories3m-facts
    python -m benchmarks.imsm_evidence --work W --page

FOLDER holds models/, facts/ and text/, see presets/pararel.yaml. Every finished training is a line in W: a killed run
goes on. A process uses one thread; tasks can run side by side, one process each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.evidence.command import run

TASKS = ("embedded", "stories3m-facts")


def run_task(name: str, args: argparse.Namespace) -> None:
    """Do what is left of a task."""
    from benchmarks.imsm_evidence.arms import PARTS
    from benchmarks.imsm_evidence.bench import ImsmBench
    from benchmarks.preserve_evidence.materials import task

    ImsmBench(task(name, args.project, args.data or Path()), PARTS[name], args.work, args.seeds).run()


def write_page(work: Path, docs: Path) -> None:
    """Write docs/evidence-imsm.md."""
    from benchmarks.imsm_evidence.page import write_page

    write_page(work, docs)


if __name__ == "__main__":
    run(__doc__, TASKS, run_task, write_page)
