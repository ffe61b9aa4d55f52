"""Merge a run's adapters: plain checkpoints where the method folds, else composed artefacts; record parity.

Parity is the difference of logits: merged against attached, on held-out rows, and read back from disk against the
trained model in memory. Beyond the bound of params.yaml the stage fails.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stages.runner import command

if TYPE_CHECKING:
    from stages.core.schema import Params

EXAMPLE = "python -m stages.merge --name lora --adapters data/adapters/lora --base data/base \\\n    --test data/prepared/test.jsonl --out data/merged/lora"  # noqa: E501


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--name", required=True, help="a name under `runs` in params.yaml")
    parser.add_argument("--adapters", type=Path, required=True, help="the run's trained seeds")
    parser.add_argument("--base", type=Path, required=True, help="the base stage's folder")
    parser.add_argument("--test", type=Path, required=True, help="held-out rows for parity")
    parser.add_argument("--out", type=Path, required=True, help="folder for one seed-N folder per kept seed")


def run(args: argparse.Namespace, params: Params) -> None:
    """Merge every seed, or the one with the lowest validation loss (`merge.keep: best`)."""
    from knowtune.checkpoints.cards import ADAPTER_CARD
    from knowtune.common.errors import UserError, unknown
    from knowtune.common.files import read_card, read_rows, write_json
    from knowtune.merging.fold import merge_seed
    from knowtune.merging.parity import PARITY, require_parity
    from stages.core.models import open_base
    from stages.core.runs import method_of

    if args.name not in params.runs:
        raise unknown("run", args.name, params.runs)
    settings = params.runs[args.name]
    base, method = open_base(params, args.base), method_of(settings)
    seeds = list(settings.seeds)
    if params.merge.keep == "best":
        shape = {"validation_loss": float | int | None}
        cards = {seed: read_card(args.adapters / f"seed-{seed}" / ADAPTER_CARD, shape, "train") for seed in seeds}
        losses = {seed: card["validation_loss"] for seed, card in cards.items()}
        if None in losses.values():
            raise UserError("params.yaml: merge.keep: got 'best'; allowed without validation rows: 'all'")
        seeds = [min(seeds, key=lambda seed: (losses[seed], seed))]
    rows = read_rows(args.test)
    held_out = rows[rows["kind"] == "generalisation"]
    rows = (rows if held_out.empty else held_out).head(params.merge.parity_rows)
    parities = {}
    for seed in seeds:
        adapter, folder = args.adapters / f"seed-{seed}", args.out / f"seed-{seed}"
        parities[seed] = merge_seed(method, adapter, base, folder, rows, params.evaluate.batch_size)
        attached, trained = parities[seed]["largest"], parities[seed]["trained"]
        print(f"merge {args.name}: seed {seed}: logits differ by {attached:.2e} attached, {trained:.2e} as trained")
        require_parity(parities[seed], params.merge.parity, f"merge {args.name}, seed {seed}")
    write_json(args.out / PARITY, {f"seed-{seed}": value for seed, value in parities.items()})


if __name__ == "__main__":
    sys.exit(command.main("stages.merge"))
