"""Ask the pristine base every training prompt, once for all filters: its greedy answer, and the row's length."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stages.core import command
from stages.core.schema import Params

EXAMPLE = "python -m stages.answers --train data/prepared/train.jsonl --base data/base --out data/answers.jsonl"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--train", type=Path, required=True, help="training rows")
    parser.add_argument("--base", type=Path, required=True, help="the base stage's folder")
    parser.add_argument("--out", type=Path, required=True, help="JSON-lines file of answers")


def run(args: argparse.Namespace, params: Params) -> None:
    """Write one answer per training row, in their order."""
    import pandas as pd

    from knowtune.artefacts import read_rows, write_rows
    from knowtune.contract import ANSWERS, ROWS, check
    from knowtune.encoding import encode_rows
    from knowtune.evaluation import greedy_answers
    from stages.core.models import open_base

    rows = check(read_rows(args.train), ROWS, str(args.train))
    base = open_base(params, args.base)
    tokenizer = base.tokenizer()
    settings = params.answers
    encoded = encode_rows(tokenizer, rows["prompt"], rows["target"])
    lengths = [len(row.input_ids) for row in encoded]
    short = [row.target_start + settings.max_new_tokens <= base.context for row in encoded]  # others are not asked
    asked = rows.loc[short, "prompt"].tolist()
    given = iter(greedy_answers(base.model(), tokenizer, asked, settings.batch_size, settings.max_new_tokens))
    answers = [next(given) if fits else "" for fits in short]
    begins = [bool(t) and a.casefold().startswith(t.casefold()) for a, t in zip(answers, rows["target"], strict=True)]
    table = pd.DataFrame(
        {
            "id": rows["id"],
            "answer": pd.Series(answers, dtype="str"),
            "correct": begins,
            "num_tokens": lengths,
            "excess_tokens": [max(0, length - base.context) for length in lengths],
        }
    )
    write_rows(args.out, check(table, ANSWERS, "answers"))
    print(f"answers: {len(rows)} rows, {sum(begins)} answers begin with the target")


if __name__ == "__main__":
    sys.exit(command.main("stages.answers"))
