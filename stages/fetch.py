"""Fetch a model or a data set from the hub, at a pinned revision, into a folder that all later stages can name.

The folder is an out like any other: DVC knows its digest, `dvc push` keeps it, and no later stage needs the network.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stages.runner import command

if TYPE_CHECKING:
    from stages.core.schema import Params

NETWORK = True  # the only stage that may reach out
EXAMPLE = "python -m stages.fetch --name smol --out data/hub/smol"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--name", required=True, help="a name under `hub` in params.yaml")
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")


def run(args: argparse.Namespace, params: Params) -> None:
    """Fetch what the name stands for."""
    from knowtune.checkpoints.hub import fetch_model
    from knowtune.common.errors import unknown
    from knowtune.data.hub import fetch_dataset
    from stages.core.schema import HubModel

    if args.name not in params.hub:
        raise unknown("hub entry", args.name, params.hub)
    wanted = params.hub[args.name]
    if isinstance(wanted, HubModel):
        fetch_model(wanted.repo, wanted.revision, args.out)
        print(f"fetch {args.name}: {wanted.repo}")
        return
    counts = fetch_dataset(
        wanted.repo,
        wanted.revision,
        args.out,
        config=wanted.config,
        splits=wanted.splits,
        streaming=wanted.streaming,
        max_rows=wanted.max_rows,
    )
    print(f"fetch {args.name}: {counts}")


if __name__ == "__main__":
    sys.exit(command.main("stages.fetch"))
