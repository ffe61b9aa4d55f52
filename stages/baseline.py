"""Judge the pristine base on every evaluation example and general text, once: later results are compared with it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stages.runner import command

if TYPE_CHECKING:
    from stages.core.schema import Params

EXAMPLE = "python -m stages.baseline --test data/prepared/test.jsonl --retention data/prepared/retention.jsonl \\\n    --base data/base --out data/baseline"  # noqa: E501


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--test", type=Path, required=True, help="evaluation examples")
    parser.add_argument("--retention", type=Path, required=True, help="retention texts")
    parser.add_argument("--base", type=Path, required=True, help="the base stage's folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for examples, texts and metrics")


def run(args: argparse.Namespace, params: Params) -> None:
    """Write examples, texts, hidden states of texts (of a classifier), metrics, cautions and noise floors."""
    from dataclasses import replace

    import torch

    from knowtune.common.files import write_json
    from knowtune.evaluation.compute_metrics import compute_metrics, reads_answers, reads_base
    from knowtune.evaluation.evaluate import judge_model
    from knowtune.evaluation.results import beside_base, noise_floors
    from knowtune.evaluation.retention import other_batch_size
    from knowtune.evaluation.sanity_checks import check_baseline, count_known
    from stages.core.evaluation_set import read_evaluation_set
    from stages.core.models import open_base
    from stages.core.semantics import vectors_of

    base, on = open_base(params, args.base), read_evaluation_set(params, args.test, args.retention)
    torch.manual_seed(0)  # a classifier's head is new: what is judged here is chance
    model = base.model()
    vectors = vectors_of(params, model, base.tokenizer()) if reads_answers(on.metrics) else None
    results = judge_model(on, model, base, vectors, "baseline", model if reads_base(on.metrics) else None)
    metrics = compute_metrics(on.metrics, beside_base(results, results, base.task))
    known, cautions = count_known(results.examples), check_baseline(on, base, results)
    another = replace(on.decoding, batch_size=other_batch_size(on.decoding.batch_size))
    again = judge_model(replace(on, decoding=another), model, base, None, "baseline, at another batch size")
    results.write(args.out)
    write_json(args.out / "metrics.json", metrics)
    noise = noise_floors(results, again, numeric=base.task.numeric)
    write_json(args.out / "notes.json", {"known": known, "cautions": cautions, "noise": noise})
    print(f"baseline: {metrics}")
    if known is not None:
        print(f"baseline: the base has {known[0]} of {known[1]} known facts right")
    for caution in cautions:
        print(f"baseline: caution: {caution}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(command.main("stages.baseline"))
