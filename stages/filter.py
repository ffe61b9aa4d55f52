"""Decide which training rows are worth learning. Kept and dropped rows are both data; every dropped row says why."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stages.core import command
from stages.core.schema import Params

EXAMPLE = "python -m stages.filter --name clean --train data/prepared/train.jsonl --answers data/answers \\\n    --out data/filtered/clean"  # noqa: E501


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--name", required=True, help="a name under `filters` in params.yaml")
    parser.add_argument("--train", type=Path, required=True, help="training rows")
    parser.add_argument("--answers", type=Path, required=True, help="folder of the base's answers to them")
    parser.add_argument("--out", type=Path, required=True, help="folder for kept.jsonl and dropped.jsonl")


def run(args: argparse.Namespace, params: Params) -> None:
    """Run the chain of strategies."""
    from knowtune.artefacts import read_rows, write_rows
    from knowtune.contract import ANSWERS, ROWS, check
    from knowtune.errors import unknown
    from knowtune.families import Seen, member_class
    from knowtune.filtering import run_filters
    from knowtune.filters import FILTERS

    if args.name not in params.filters:
        raise unknown("filter", args.name, params.filters)
    chosen = params.filters[args.name]
    chain = [(name, member_class(FILTERS, "filter", name)(**chosen.options.get(name, {}))) for name in chosen.strategy]
    rows = check(read_rows(args.train), ROWS, str(args.train))
    answers = check(read_rows(args.answers / "answers.jsonl"), ANSWERS, str(args.answers))
    kept, dropped = run_filters(rows, Seen(answers), chain, f"filter {args.name}")
    write_rows(args.out / "kept.jsonl", kept)
    write_rows(args.out / "dropped.jsonl", dropped)
    print(f"filter {args.name}: {len(rows)} read, {len(kept)} kept, {len(dropped)} dropped")


if __name__ == "__main__":
    sys.exit(command.main("stages.filter"))
