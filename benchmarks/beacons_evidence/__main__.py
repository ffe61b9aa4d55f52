"""Does it help to drop or to re-weight rows by semantic distance, and what does it cost in what was known?

Wrong targets are planted into a share of the training rows. Every arm is a method, a filter and a weighting; all arms
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
import os
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[2]
TASKS = ("embedded", "pararel")


def main() -> None:
    """Run tasks, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of finished pieces")
    parser.add_argument("--project", type=Path, default=Path(), help="a project in which `make run` has run")
    parser.add_argument("--data", type=Path, help="folder with models/, facts/ and text/")
    parser.add_argument("--task", nargs="+", choices=TASKS, default=[], help="what to run")
    parser.add_argument("--seeds", type=int, default=5, help="only so many of the five, to see both tasks sooner")
    parser.add_argument("--page", action="store_true", help="write docs/evidence-beacons.md from what is finished")
    args = parser.parse_args()
    if "pararel" in args.task and args.data is None:
        parser.error("--data is needed for this task")
    for name in args.task:
        run_task(name, args)
    if args.page:
        from benchmarks.beacons_evidence.page import write_page

        write_page(args.work, ROOT / "docs")


def run_task(name: str, args: argparse.Namespace) -> None:
    """Do what is left of a task."""
    import torch

    from benchmarks.beacons_evidence.work import Bench, sound
    from benchmarks.selection_evidence.materials import material
    from benchmarks.selection_evidence.store import alone

    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")
    torch.set_num_threads(1)
    with alone(args.work, name):
        Bench(sound(material(name, args.project, args.data or Path()), args.project), args.work, args.seeds).run()


if __name__ == "__main__":
    main()
