"""Decide which training rows are worth learning. Kept and dropped rows are both data; every dropped row says why."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stages.runner import command

if TYPE_CHECKING:
    from stages.core.schema import Params

EXAMPLE = "python -m stages.filter --name clean --train data/prepared/train.jsonl --answers data/answers \\\n    --out data/filtered/clean"  # noqa: E501


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--name", required=True, help="a name under `filters` in params.yaml")
    parser.add_argument("--train", type=Path, required=True, help="training rows")
    parser.add_argument("--answers", type=Path, required=True, help="folder of the base's answers to them")
    parser.add_argument("--out", type=Path, required=True, help="folder for kept.jsonl, dropped.jsonl, summary.json")


def run(args: argparse.Namespace, params: Params) -> None:
    """Run the chain of strategies over the training rows."""
    from knowtune.common.errors import unknown
    from knowtune.filters import FILTERS
    from knowtune.filters.chain import Limits
    from knowtune.filters.stream import filter_file
    from knowtune.registry import member_class

    if args.name not in params.filters:
        raise unknown("filter", args.name, params.filters)
    chosen, where = params.filters[args.name], f"filter {args.name}"
    chain = [(name, member_class(FILTERS, "filter", name)(**chosen.options.get(name, {}))) for name in chosen.strategy]
    group = "target" if params.task.kind == "classification" else "relation"
    limits = Limits(group, chosen.stratify, chosen.allow_lost)
    summary = filter_file(args.train, args.answers, args.out, chain, where, limits)
    read, kept = summary["rows"]["read"], summary["rows"]["kept"]
    print(f"{where}: {read} read, {kept} kept, {read - kept} dropped")


if __name__ == "__main__":
    sys.exit(command.main("stages.filter"))
