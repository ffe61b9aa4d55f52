"""Do KaSA and SK-Tuning do what their papers say, beside methods of their kind?

Low-rank adapters are trained at equal rank, virtual tokens at equal number, KaSA with each of its parts left out:

    dvc repro prepare                                         # base and rows of the embedded task
    python -m benchmarks.methods_evidence --work W --task embedded
    python -m benchmarks.methods_evidence --work W --data FOLDER --task pararel sst2
    python -m benchmarks.methods_evidence --work W --project P --data FOLDER --task embedded pararel sst2 --costs
    python -m benchmarks.methods_evidence --work W --page

FOLDER holds models/, facts/, text/ and glue/, see the presets `pararel` and `minilm`. Every finished training is a line
in W: a killed run goes on. A process uses one thread; tasks can run side by side, one process each. `--costs` compares
what arms take, by short trainings in turn, and trains nothing else.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.evidence.command import run

TASKS = ("embedded", "pararel", "sst2")


def run_task(name: str, args: argparse.Namespace) -> None:
    """Do what is left of a task."""
    from benchmarks.methods_evidence.materials import material_of
    from benchmarks.methods_evidence.short_trainings import CostsBench

    bench = CostsBench(material_of(name, args.project, args.data or Path()), args.work, args.seeds)
    if args.costs:
        bench.compare_costs()
    else:
        bench.run()


def more(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's own argument."""
    parser.add_argument("--costs", action="store_true", help="compare what the arms take, in place of training them")


def write_page(work: Path, docs: Path) -> None:
    """Write docs/evidence-methods.md."""
    from benchmarks.methods_evidence.page import write_page

    write_page(work, docs)


if __name__ == "__main__":
    run(__doc__, TASKS, run_task, write_page, more)
