"""Judge the merged models of a run or mixture on every item, against the pristine base, item by item."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stages.core.schema import Params
from stages.runner import command

EXAMPLE = "python -m stages.evaluate --name lora --merged data/merged/lora --base data/base --test data/prepared/test.jsonl \\\n    --retention data/prepared/retention.jsonl --baseline data/baseline --out data/evaluated/runs/lora"  # noqa: E501


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--name", required=True, help="the run's or mixture's name, for messages")
    parser.add_argument("--merged", type=Path, required=True, help="its merged models")
    parser.add_argument("--base", type=Path, required=True, help="the base stage's folder")
    parser.add_argument("--test", type=Path, required=True, help="evaluation items")
    parser.add_argument("--retention", type=Path, required=True, help="retention texts")
    parser.add_argument("--baseline", type=Path, required=True, help="the pristine base's results")
    parser.add_argument("--out", type=Path, required=True, help="folder for items, texts and metrics")


def run(args: argparse.Namespace, params: Params) -> None:
    """Write items.jsonl and texts.jsonl with a `seed` column, and metrics.json: per seed, and mean with interval."""
    import pandas as pd

    from knowtune.common.files import read_card, write_json, write_rows
    from knowtune.evaluation.leaderboard import Results, beside_base, compute_metrics, over_seeds, reads_answers
    from knowtune.merging.fold import open_merged
    from stages.core.judging import judge
    from stages.core.models import open_base
    from stages.core.semantics import vectors_of

    base = open_base(params, args.base)
    asks = reads_answers(params.evaluate.metrics)
    vectors = vectors_of(params, base.model(), base.tokenizer()) if asks else None  # the pristine base's, of all seeds
    baseline = Results.read(args.baseline)
    all_items, all_texts, metrics = [], [], {}
    folders = sorted(args.merged.glob("seed-*"), key=lambda path: int(path.name.removeprefix("seed-")))
    for folder in folders:
        seed = int(folder.name.removeprefix("seed-"))
        label = f"evaluate {args.name}, seed {seed}"
        results = judge(params, open_merged(folder, base), base, args.test, args.retention, vectors, label)
        judged = beside_base(results, baseline, base.task)
        metrics[str(seed)] = compute_metrics(params.evaluate.metrics, judged)
        all_items.append(judged.items.assign(seed=seed))
        all_texts.append(judged.texts.assign(seed=seed))
        print(f"{label}: {metrics[str(seed)]}")
    write_rows(args.out / "items.jsonl", pd.concat(all_items, ignore_index=True))
    write_rows(args.out / "texts.jsonl", pd.concat(all_texts, ignore_index=True))
    found = args.merged / "parity.json"  # mixtures have none
    parity = None
    if found.is_file():
        seeds = read_card(found, {}, "merge").values()
        parity = max(max(seed["largest"], seed["trained"]) for seed in seeds)
    write_json(args.out / "metrics.json", {"seeds": metrics, "summary": over_seeds(metrics), "parity": parity})


if __name__ == "__main__":
    sys.exit(command.main("stages.evaluate"))
