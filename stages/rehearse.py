"""Find out what the pristine base knows that may be replayed: which rows it has right, and what it writes itself.

Once, for all runs and selections. Rows that it has wrong are kept apart: nobody needs to be held to them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.runner import command

if TYPE_CHECKING:
    from stages.core.schema import Params

EXAMPLE = "python -m stages.rehearse --replay data/prepared/replay.jsonl --test data/prepared/test.jsonl \\\n    --base data/base --out data/rehearsed"  # noqa: E501


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--replay", type=Path, required=True, help="rows that may be replayed")
    parser.add_argument("--test", type=Path, required=True, help="evaluation examples, which nothing may quote")
    parser.add_argument("--base", type=Path, required=True, help="the base stage's folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for rows, sequences and a summary")


def run(args: argparse.Namespace, params: Params) -> None:
    """Write the rows that the base has right, those that it has wrong, its own sequences, and a summary."""
    import torch

    from knowtune.common.files import read_rows, write_json, write_rows
    from knowtune.data.contract import EXAMPLES, ROW_COLUMNS, ROWS, check
    from knowtune.preserve.known_rows import split_by_base
    from knowtune.preserve.rehearse import DROPPED, Rehearsing, rehearse
    from knowtune.preserve.sources import KNOWN, SEQUENCES
    from stages.core.code import code_of
    from stages.core.compute import compute_of, require_one_process
    from stages.core.models import open_base
    from stages.core.work import work_folder

    require_one_process("rehearse")
    base, settings = open_base(params, args.base), params.rehearse
    rows = check(read_rows(args.replay, ROW_COLUMNS), ROWS, str(args.replay))
    shared = [params.evaluate.batch_size, compute_of(params).__dict__, params.task.model_dump()]
    decides = [None if settings is None else settings.model_dump(), *shared]
    inputs = [args.replay, args.test, args.base]
    work = work_folder("rehearse", decides, inputs, code_of("stages.rehearse", None, params))
    torch.manual_seed(0)  # a classifier's head may be new
    model = base.model() if len(rows) or settings is not None else None
    known, wrong = split_by_base(rows, base, model, params.evaluate.batch_size, work)
    write_rows(args.out / KNOWN, known)
    write_rows(args.out / "wrong.jsonl", wrong)
    summary: dict[str, Any] = {"known": len(known), "wrong": len(wrong)}
    if settings is None:
        for name in (SEQUENCES, DROPPED):
            (args.out / name).touch()
    else:
        measured = check(read_rows(args.test), EXAMPLES, str(args.test))
        given = Rehearsing(base, settings, known, measured)
        summary |= rehearse(given, model, work / "sequences", args.out)
    write_json(args.out / "summary.json", summary)
    print(f"rehearse: {summary}")
    if settings is not None and summary["sequences"] < settings.sequences:
        few = (
            f"{summary['sequences']} of {settings.sequences} sequences, for too many are dropped: {summary['dropped']}"
        )
        print(f"rehearse: caution: {few}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(command.main("stages.rehearse"))
