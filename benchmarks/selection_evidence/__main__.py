"""Does choosing parameters and rows by Fisher information beat a random choice, and beat LoRA, and at what cost?

Trains LoRA and the sparse tuner with masks chosen at random, by magnitude, by FISH and by IRD, all with the same number
of trained parameters and of optimiser steps, with five seeds each, and writes `docs/evidence.md` from what is finished:

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
from pathlib import Path

from benchmarks.evidence.command import run

TASKS = ("embedded", "pararel", "cola", "sst2", "rte")


def more_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this benchmark has beside the common arguments."""
    parser.add_argument("--parts", type=int, help="only so many of a task's comparisons, in their order")


def run_task(name: str, args: argparse.Namespace) -> None:
    """Do what is left of a task."""
    from benchmarks.evidence.materials import material
    from benchmarks.selection_evidence.bench import SelectionBench
    from benchmarks.selection_evidence.parts import PARTS

    task = material(name, args.project, args.data or Path())
    SelectionBench(task, PARTS[name][: args.parts], args.work, args.seeds).run()


def write_page(work: Path, docs: Path) -> None:
    """Write docs/evidence.md."""
    from benchmarks.selection_evidence.page import write_page

    write_page(work, docs)


if __name__ == "__main__":
    run(__doc__, TASKS, run_task, write_page, more_arguments)
