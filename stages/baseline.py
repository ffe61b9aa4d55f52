"""Judge the pristine base on every item and retention text, once: what every later result is compared with."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stages.core import command
from stages.core.schema import Params

EXAMPLE = "python -m stages.baseline --test data/prepared/test.jsonl --retention data/prepared/retention.jsonl \\\n    --base data/base --out data/baseline"  # noqa: E501


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--test", type=Path, required=True, help="evaluation items")
    parser.add_argument("--retention", type=Path, required=True, help="retention texts")
    parser.add_argument("--base", type=Path, required=True, help="the base stage's folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for items, texts and metrics")


def run(args: argparse.Namespace, params: Params) -> None:
    """Write items.jsonl, texts.jsonl and the base's own metrics."""
    from knowtune.artefacts import read_rows, write_json, write_rows
    from knowtune.leaderboard import compute_metrics
    from stages.core.judging import judge
    from stages.core.models import open_base

    base = open_base(params, args.base)
    items, texts = judge(params, base.model(), base.tokenizer(), base.context, args.test, args.retention, "baseline")
    write_rows(args.out / "items.jsonl", items)
    write_rows(args.out / "texts.jsonl", texts)
    items = read_rows(args.out / "items.jsonl").rename(columns={"correct": "base_correct", "loss": "base_loss"})
    texts = read_rows(args.out / "texts.jsonl").rename(columns={"loss": "base_loss"})
    same_items = items.assign(correct=items["base_correct"], loss=items["base_loss"])
    metrics = compute_metrics(params.evaluate.metrics, same_items, texts.assign(loss=texts["base_loss"]))
    write_json(args.out / "metrics.json", metrics)
    print(f"baseline: {metrics}")


if __name__ == "__main__":
    sys.exit(command.main("stages.baseline"))
