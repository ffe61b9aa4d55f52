"""Does choosing parameters and rows by Fisher information beat choosing by lot, and beat LoRA, and at what cost?

Trains LoRA and the sparse tuner with masks by lot, by magnitude, by FISH and by IRD, all with the same number of
trained parameters and of optimiser steps, with five seeds each, and writes `docs/evidence.md` from what is finished:

    make run                                                  # bases and rows of the embedded task
    python -m benchmarks.selection_evidence --work W --data FOLDER --task embedded
    python -m benchmarks.selection_evidence --work W --data FOLDER --task pararel cola sst2 rte
    python -m benchmarks.selection_evidence --work W --page

The pieces behind the page lie in `benchmarks/selection_evidence/finished`, but for the masks, which are made again
where they are needed: `--work` with this folder goes on. Overlaps of masks that are not there are a dash on the page.

FOLDER holds models/, facts/, text/ and glue/, see presets/pararel.yaml and presets/minilm.yaml. Every finished
training is a line in W: a killed run goes on. A process uses one thread; tasks can run side by side, one process each.
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[2]
TASKS = ("embedded", "pararel", "cola", "sst2", "rte")


def main() -> None:
    """Run tasks, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of finished pieces")
    parser.add_argument("--project", type=Path, default=Path(), help="a project in which `make run` has run")
    parser.add_argument("--data", type=Path, help="folder with models/, facts/, text/ and glue/")
    parser.add_argument("--task", nargs="+", choices=TASKS, default=[], help="what to run")
    parser.add_argument("--parts", type=int, help="only so many of a task's comparisons, in their order")
    parser.add_argument("--seeds", type=int, default=5, help="only so many of the five, to see all tasks sooner")
    parser.add_argument("--page", action="store_true", help="write docs/evidence.md from what is finished")
    args = parser.parse_args()
    for name in args.task:
        if args.data is None and name != "embedded":
            parser.error("--data is needed for this task")
        run_task(name, args)
    if args.page:
        from benchmarks.selection_evidence.page import write_page

        write_page(args.work, ROOT / "docs")


def run_task(name: str, args: argparse.Namespace) -> None:
    """Do what is left of a task."""
    import torch

    from benchmarks.selection_evidence.materials import material
    from benchmarks.selection_evidence.store import alone
    from benchmarks.selection_evidence.work import Bench

    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")
    torch.set_num_threads(1)
    with alone(args.work, name):
        Bench(material(name, args.project, args.data or Path(), args.parts), args.work, args.seeds).run()


if __name__ == "__main__":
    main()
