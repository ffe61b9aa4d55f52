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
    """Write items, texts, the texts' states (of a classifier) and the base's own metrics."""
    import torch

    from knowtune.artefacts import write_json
    from knowtune.leaderboard import beside_base, compute_metrics, reads_answers
    from stages.core.judging import judge
    from stages.core.models import open_base
    from stages.core.semantics import vectors_of

    base = open_base(params, args.base)
    torch.manual_seed(0)  # a classifier's head is new: what is judged here is chance
    model = base.model()
    vectors = vectors_of(params, model, base.tokenizer()) if reads_answers(params.evaluate.metrics) else None
    results = judge(params, model, base, args.test, args.retention, vectors, "baseline")
    results.write(args.out)
    metrics = compute_metrics(params.evaluate.metrics, beside_base(results, results, base.task))
    write_json(args.out / "metrics.json", metrics)
    print(f"baseline: {metrics}")


if __name__ == "__main__":
    sys.exit(command.main("stages.baseline"))
