"""Make the pristine base ready: build the embedded one from the known facts, or write the card of a model folder.

The card names every weight file with its digest; adapters carry the digest of the whole.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stages.runner import command

if TYPE_CHECKING:
    from stages.core.schema import Params

EXAMPLE = "python -m stages.base --source data/raw --out data/base"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--source", type=Path, required=True, help="authored facts, or the model folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model or its card")


def run(args: argparse.Namespace, params: Params) -> None:
    """Build or describe; the build goes on from its last checkpoint when it was interrupted."""
    import shutil

    from knowtune.checkpoints.cards import CARD, make_card
    from knowtune.checkpoints.probe import probe
    from knowtune.common.files import write_json
    from stages.core.compute import compute_of
    from stages.core.models import task_of
    from stages.core.schema import EmbeddedBase

    compute = compute_of(params)
    if isinstance(params.base, EmbeddedBase):
        from knowtune.data.authored import read_authored
        from knowtune.training.build_embedded import build_base
        from stages.core.code import code_of
        from stages.core.work import work_folder

        authored, code = read_authored(args.source), code_of("stages.base", None, params)
        work = work_folder("base", [params.base.model_dump(), compute.__dict__], [args.source], code)
        counts = build_base(authored, params.base.build, compute, args.out, work)
        shutil.rmtree(work / "checkpoints", ignore_errors=True)  # a forced run is to train, not to find itself finished
        print(f"base: {counts}")
        folder = args.out
        card = make_card(folder, "embedded")
    else:
        folder = args.source
        card = make_card(folder, folder.resolve().name)
    card = probe(card, folder, compute, task_of(params))
    for note in card["notes"]:
        print(f"base: {note}", file=sys.stderr)
    write_json(args.out / CARD, card)


if __name__ == "__main__":
    sys.exit(command.main("stages.base"))
