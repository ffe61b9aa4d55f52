"""Let the pristine base answer every training prompt: its greedy answer, the distance to the target, the row's length.

Where `answers.sketch` is set, also sketch each row's training gradient. Rows stream in and out part by part.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stages.runner import command

if TYPE_CHECKING:
    from stages.core.schema import Params

EXAMPLE = "python -m stages.answers --train data/prepared/train.jsonl --base data/base --out data/answers"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--train", type=Path, required=True, help="training rows")
    parser.add_argument("--base", type=Path, required=True, help="the base stage's folder")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for answers.jsonl, and sketches.npy where asked for"
    )


def run(args: argparse.Namespace, params: Params) -> None:
    """Write one answer per training row, and one sketch, in the order of the rows."""
    import torch

    from knowtune.common.files import join_files
    from knowtune.data.base_answers import answer_file
    from knowtune.gradients.sketch_file import sketch_file
    from knowtune.tasks.answers import Decoding
    from stages.core.code import code_of
    from stages.core.compute import compute_of
    from stages.core.models import open_base
    from stages.core.semantics import vectors_of
    from stages.core.work import work_folder

    base, sketch = open_base(params, args.base), params.answers.sketch
    decoding = params.answers.model_dump(exclude={"sketch"})
    code, compute, task = code_of("stages.answers", None, params), compute_of(params).__dict__, params.task.model_dump()
    decides, inputs = [decoding, params.semantics.model_dump(), task, compute], [args.train, args.base]
    torch.manual_seed(0)  # a classifier's head is new, as in the baseline
    model = base.model()
    vectors = vectors_of(params, model, base.tokenizer())
    work = work_folder("answers", decides, [*inputs, Path(params.semantics.path)], code)
    parts, counts = answer_file(args.train, base, model, vectors, Decoding(**decoding), work)
    join_files(parts, args.out / "answers.jsonl")
    print(f"answers: {counts.rows} rows, {counts.correct} answers begin with the target")
    if not counts.not_empty:
        print("answers: the base answers nothing to any prompt, so that all distances are 1", file=sys.stderr)
    if sketch is not None:
        work = work_folder("sketches", [sketch.model_dump(), task, compute], inputs, code)
        table = args.out / "sketches.npy"
        sketch_file(args.train, base, model, table, work, num_rows=counts.rows, **sketch.model_dump())
        print(f"answers: {counts.rows} gradients sketched in {sketch.dimensions} numbers each")


if __name__ == "__main__":
    sys.exit(command.main("stages.answers"))
