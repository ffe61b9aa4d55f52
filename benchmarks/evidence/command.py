"""The command line of an evidence benchmark: run tasks, or write the page."""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[2]


def run(
    description: str | None,
    tasks: Sequence[str],
    run_task: Callable[[str, argparse.Namespace], None],
    write_page: Callable[[Path, Path], None],
    more: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> None:
    """Parse the arguments and do what they say.

    Args:
        description: of the benchmark.
        tasks: names; all but `embedded` need --data.
        run_task: does what is left of a task.
        write_page: from the folder of finished pieces into the folder of docs.
        more: declares further arguments.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of finished pieces")
    parser.add_argument("--project", type=Path, default=Path(), help="a project in which `make run` has run")
    parser.add_argument("--data", type=Path, help="folder with models/, facts/ and text/; for GLUE with glue/")
    parser.add_argument("--task", nargs="+", choices=tasks, default=[], help="what to run")
    parser.add_argument("--seeds", type=int, default=5, help="only so many of the five, to see all tasks sooner")
    parser.add_argument("--page", action="store_true", help="write the page under docs/ from what is finished")
    more(parser)
    args = parser.parse_args()
    if args.data is None and set(args.task) - {"embedded"}:
        parser.error("--data is needed for this task")
    for name in args.task:
        _run_alone(name, args, run_task)
    if args.page:
        write_page(args.work, ROOT / "docs")


def _run_alone(name: str, args: argparse.Namespace, run_task: Callable[[str, argparse.Namespace], None]) -> None:
    """Run a task with one thread; no other process may be at it."""
    import torch

    from benchmarks.evidence.store import lock

    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")
    torch.set_num_threads(1)
    with lock(args.work, name):
        run_task(name, args)
