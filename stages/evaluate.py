"""Evaluate the merged models of a run or mixture beside the pristine base."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stages.runner import command

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from knowtune.checkpoints.base import Base
    from knowtune.evaluation.evaluate import Measure
    from stages.core.schema import Params, RetentionParams

EXAMPLE = "python -m stages.evaluate --name lora --merged data/merged/lora --base data/base --test data/prepared/test.jsonl \\\n    --retention data/prepared/retention.jsonl --baseline data/baseline --out data/evaluated/runs/lora"  # noqa: E501


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--name", required=True, help="the run's or mixture's name, for messages")
    parser.add_argument("--merged", type=Path, required=True, help="its merged models")
    parser.add_argument("--base", type=Path, required=True, help="the base stage's folder")
    parser.add_argument("--test", type=Path, required=True, help="evaluation examples")
    parser.add_argument("--retention", type=Path, required=True, help="retention texts")
    parser.add_argument("--baseline", type=Path, required=True, help="the pristine base's results")
    parser.add_argument("--out", type=Path, required=True, help="folder for examples, texts and metrics")


def run(args: argparse.Namespace, params: Params) -> None:
    """Write examples.jsonl and texts.jsonl with a `seed` column, and metrics.json: by seed, and mean with interval.

    The same of each retention set: retention/NAME.jsonl.
    """
    from knowtune.common.files import write_json, write_rows
    from knowtune.evaluation.compute_metrics import over_seeds, reads_answers, reads_base
    from knowtune.evaluation.evaluate import evaluate_seeds
    from knowtune.evaluation.results import Results
    from knowtune.merging.choose import read_curve
    from knowtune.merging.fold import open_merged
    from knowtune.merging.parity import largest_difference
    from stages.core.evaluation_set import read_evaluation_set
    from stages.core.models import open_base
    from stages.core.semantics import vectors_of

    base = open_base(params, args.base)
    answers, beside = (reads(params.evaluate.metrics) for reads in (reads_answers, reads_base))
    pristine = base.model() if answers or beside else None
    vectors = vectors_of(params, pristine, base.tokenizer()) if answers and pristine is not None else None
    if not beside:
        pristine = None  # only where a metric asks for it does it stay in memory, beside each seed's model
    sets = _measures(args, params, base)
    seeds = sorted(int(folder.name.removeprefix("seed-")) for folder in args.merged.glob("seed-*"))
    evaluation = evaluate_seeds(
        read_evaluation_set(params, args.test, args.retention),
        ((seed, open_merged(args.merged / f"seed-{seed}", base)) for seed in seeds),
        base,
        Results.read(args.baseline),
        vectors,
        f"evaluate {args.name}",
        pristine,
        sets,
    )
    write_rows(args.out / "examples.jsonl", evaluation.examples)
    write_rows(args.out / "texts.jsonl", evaluation.texts)
    for key, results in evaluation.sets.items():
        write_rows(args.out / "retention" / f"{key}.jsonl", results)
    parity = largest_difference(args.merged)
    summary, curve = over_seeds(evaluation.metrics), read_curve(args.merged)
    metrics = {"seeds": evaluation.metrics, "summary": summary, "parity": parity}
    if sets:
        metrics["retention"] = {key: over_seeds(of_seeds) for key, of_seeds in evaluation.set_changes.items()}
    write_json(args.out / "metrics.json", metrics if curve is None else {**metrics, "curve": curve})


def _measures(args: argparse.Namespace, params: Params, base: Base) -> dict[str, Measure]:
    """Give what measures a model on each retention set, and remembers it: an added set costs that set alone."""
    from knowtune.common.files import read_rows, write_rows
    from knowtune.evaluation.retention import beside, measure
    from stages.core.code import code_of
    from stages.core.compute import compute_of
    from stages.core.retention import read_set_of, reading_of
    from stages.core.work import work_folder

    if not params.evaluate.retention:
        return {}
    how, shared = reading_of(params), [compute_of(params).__dict__, params.task.model_dump()]
    code = code_of("stages.evaluate", params.runs.get(args.name, params.mixtures.get(args.name)), params)

    def measured(key: str, section: RetentionParams) -> Measure:
        folder = args.baseline / "retention" / key
        on, of_base = read_set_of(key, section, folder)
        decides = [section.model_dump(exclude={"path"}), how.__dict__, *shared]
        inputs = [args.merged, args.base, folder / "rows.jsonl", folder / "metrics.json"]
        work = work_folder(f"evaluate/{args.name}/{key}", decides, inputs, code)

        def measure_once(seed: int, model: torch.nn.Module) -> pd.DataFrame:
            path = work / f"seed-{seed}.jsonl"
            if not path.is_file():
                write_rows(path, measure(on, model, base, how, f"evaluate {args.name}, seed {seed}"))
            return beside(read_rows(path), of_base, key)

        return measure_once

    return {key: measured(key, section) for key, section in params.evaluate.retention.items()}


if __name__ == "__main__":
    sys.exit(command.main("stages.evaluate"))
