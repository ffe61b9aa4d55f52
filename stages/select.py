"""Choose training rows and parameters among what a filter kept, once per seed of the selection."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stages.core import command
from stages.core.schema import Params

EXAMPLE = "python -m stages.select --name all --kept data/filtered/everything/kept.jsonl --base data/base \\\n    --out data/selected/all"  # noqa: E501


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--name", required=True, help="a name under `selections` in params.yaml")
    parser.add_argument("--kept", type=Path, required=True, help="rows that the selection's filter kept")
    parser.add_argument("--base", type=Path, required=True, help="the base stage's folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for one seed-N folder per seed")


def run(args: argparse.Namespace, params: Params) -> None:
    """Write, per seed, the rows with score and choice, the mask where there is one, and the trace."""
    from knowtune.artefacts import read_rows
    from knowtune.contract import ROWS, check
    from knowtune.errors import unknown
    from knowtune.families import member_class
    from knowtune.selection import write_choice
    from knowtune.selectors import SELECTORS
    from stages.core.models import open_base

    if args.name not in params.selections:
        raise unknown("selection", args.name, params.selections)
    chosen = params.selections[args.name]
    selector = member_class(SELECTORS, "selector", chosen.strategy)(**chosen.options)
    rows = check(read_rows(args.kept), ROWS, str(args.kept))
    base = open_base(params, args.base)
    for seed in chosen.seeds:
        choice = selector.choose(rows, base.shapes(), seed)
        write_choice(args.out / f"seed-{seed}", rows, choice, base.digest)
        print(f"select {args.name}: seed {seed}: {int(choice.chosen.sum())} of {len(rows)} rows chosen")


if __name__ == "__main__":
    sys.exit(command.main("stages.select"))
