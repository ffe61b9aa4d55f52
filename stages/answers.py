"""Ask the pristine base every training prompt: its greedy answer, how far it is from the target, the row's length."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stages.core import command
from stages.core.schema import Params

EXAMPLE = "python -m stages.answers --train data/prepared/train.jsonl --base data/base --out data/answers"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--train", type=Path, required=True, help="training rows")
    parser.add_argument("--base", type=Path, required=True, help="the base stage's folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for answers.jsonl")


def run(args: argparse.Namespace, params: Params) -> None:
    """Write one answer per training row, in their order."""
    import pandas as pd
    import torch

    from knowtune.artefacts import read_rows, write_rows
    from knowtune.contract import ANSWERS, ROWS, check
    from knowtune.semantics import answered
    from stages.core.models import open_base
    from stages.core.semantics import vectors_of

    rows = check(read_rows(args.train), ROWS, str(args.train))
    base = open_base(params, args.base)
    tokenizer, settings = base.tokenizer(), params.answers
    torch.manual_seed(0)  # a classifier's head is new, as in the baseline
    model = base.model()
    found = answered(
        base.task,
        model,
        tokenizer,
        rows,
        vectors_of(params, model, tokenizer),
        batch_size=settings.batch_size,
        max_new_tokens=settings.max_new_tokens,
        label="answers",
    )
    right = [
        any(answer.casefold().startswith(known.casefold()) for known in (target, *aliases.split("\n")) if known)
        for answer, target, aliases in zip(found["answer"], rows["target"], rows["aliases"], strict=True)
    ]
    lengths = [len(row.input_ids) for row in base.task.encode(tokenizer, rows)]
    table = pd.DataFrame(
        {
            "id": rows["id"],
            "answer": found["answer"],
            "correct": right,
            "num_tokens": lengths,
            "distance": found["distance"],
        }
    )
    write_rows(args.out / "answers.jsonl", check(table, ANSWERS, "answers"))
    print(f"answers: {len(rows)} rows, {sum(right)} answers begin with the target")


if __name__ == "__main__":
    sys.exit(command.main("stages.answers"))
