"""Which part of `preserve` keeps what the base knew, at which cost in learning, time and memory?

Every arm is a method with some of its parts: replay, distillation, an anchor, protection of a mask; or a plain rival: a
lower learning rate, fewer epochs, the best epoch, FLOW, interpolation with the base. Each is trained at several
learning rates, five seeds each:

    dvc repro prepare                                         # base and rows of the embedded task
    python -m benchmarks.preserve_evidence --work W --task embedded
    python -m benchmarks.preserve_evidence --work W --data FOLDER --task stories3m-facts
    python -m benchmarks.preserve_evidence --work W --page

FOLDER holds models/, facts/ and text/, see presets/pararel.yaml. Every finished training is a line in W: a killed run
goes on. A process uses one thread; tasks can run side by side, one process each. Arms are trained in the order in which
`arms.PARTS` has them, so that the page can be written at any time, of what is finished.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.evidence.command import run

TASKS = ("embedded", "stories3m-facts")


def run_task(name: str, args: argparse.Namespace) -> None:
    """Do what is left of a task."""
    from benchmarks.preserve_evidence.arms import PARTS
    from benchmarks.preserve_evidence.bench import PreserveBench
    from benchmarks.preserve_evidence.materials import task

    parts = [part for part in PARTS[name] if not args.arm or set(args.arm) & {arm.name for arm in part.arms}]
    PreserveBench(task(name, args.project, args.data or Path()), parts, args.work, args.seeds).run()


def write_page(work: Path, docs: Path) -> None:
    """Write docs/evidence-preserve.md."""
    from benchmarks.preserve_evidence.page import write_page

    write_page(work, docs)


def more(parser: argparse.ArgumentParser) -> None:
    """Declare which parts are run."""
    parser.add_argument("--arm", nargs="+", default=[], help="only the parts that one of these arms is in")


if __name__ == "__main__":
    run(__doc__, TASKS, run_task, write_page, more)
