"""Judge the pristine base on every item and retention text, once: what every later result is compared with."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stages.core.schema import Params
from stages.runner import command

if TYPE_CHECKING:
    from knowtune.checkpoints.base import Base
    from knowtune.evaluation.leaderboard import Results

EXAMPLE = "python -m stages.baseline --test data/prepared/test.jsonl --retention data/prepared/retention.jsonl \\\n    --base data/base --out data/baseline"  # noqa: E501


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--test", type=Path, required=True, help="evaluation items")
    parser.add_argument("--retention", type=Path, required=True, help="retention texts")
    parser.add_argument("--base", type=Path, required=True, help="the base stage's folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for items, texts and metrics")


def run(args: argparse.Namespace, params: Params) -> None:
    """Write items, texts, the texts' states (of a classifier), the base's own metrics, and what makes them say less."""
    import torch

    from knowtune.common.files import write_json
    from knowtune.evaluation.cautions import known_before
    from knowtune.evaluation.leaderboard import beside_base, compute_metrics, reads_answers
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
    known, cautions = known_before(results.items), cautions_of(params, base, results, args.test, args.retention)
    write_json(args.out / "notes.json", {"known": known, "cautions": cautions})
    if known is not None:
        print(f"baseline: the base has {known[0]} of {known[1]} known facts right")
    for caution in cautions:
        print(f"baseline: caution: {caution}", file=sys.stderr)


def cautions_of(params: Params, base: Base, results: Results, test: Path, retention: Path) -> list[str]:
    """Say what makes numbers on these items and texts say less than they seem to, by what the base does with them.

    Args:
        params: of the whole pipeline.
        base: the pristine base.
        results: its own.
        test: the items' file.
        retention: the texts' file.
    """
    from knowtune.common.files import read_rows
    from knowtune.evaluation import cautions
    from knowtune.evaluation.leaderboard import reads_answers
    from knowtune.text.encode_rows import encode_texts
    from knowtune.text.encoded import Encoded

    tokenizer, read = base.tokenizer(), results.texts
    texts = read_rows(retention, ["id", "text"])["text"].tolist()
    ids = encode_texts(tokenizer, texts, min(params.evaluate.max_text_tokens, base.context))
    losses = read["loss"] * read["num_tokens"] if "loss" in read and len(read) else None
    loss = None if losses is None else float(losses.sum() / read["num_tokens"].sum())
    found = cautions.of_known(results.items) + cautions.of_texts(loss, ids, tokenizer.unk_token_id)
    if reads_answers(params.evaluate.metrics):
        rows = base.task.encode(tokenizer, read_rows(test))
        lengths = [row.target_end - row.target_start for row in rows if isinstance(row, Encoded)]
        found += cautions.of_lengths(lengths, params.answers.max_new_tokens)
    return found


if __name__ == "__main__":
    sys.exit(command.main("stages.baseline"))
