"""Ask the pristine base every training prompt: its greedy answer, how far it is from the target, the row's length.

Where `answers.sketch` is set, also sketch each row's training gradient. Rows stream in and out part by part.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages.core.schema import Params
from stages.runner import command

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from knowtune.checkpoints.base import Base

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

    from knowtune.common.files import join_files, read_rows
    from stages.core.models import open_base

    base = open_base(params, args.base)
    torch.manual_seed(0)  # a classifier's head is new, as in the baseline
    model, tokenizer = base.model(), base.tokenizer()
    parts = _answers(args, params, base, model, tokenizer)
    join_files(parts, args.out / "answers.jsonl")
    num_rows = num_right = num_said = 0
    for part in parts:
        table = read_rows(part)
        num_rows, num_right = num_rows + len(table), num_right + int(table["correct"].sum())
        num_said += int((table["answer"] != "").sum())
    print(f"answers: {num_rows} rows, {num_right} answers begin with the target")
    if not num_said:
        print("answers: the base answers nothing to any prompt, so that all distances are 1", file=sys.stderr)
    if params.answers.sketch is not None:
        _sketches(args, params, base, model, tokenizer, num_rows)


def _answers(
    args: argparse.Namespace, params: Params, base: Base, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> list[Path]:
    """Answer part by part; a file each."""
    import pandas as pd

    from knowtune.common.files import write_rows
    from knowtune.common.parts import by_parts
    from knowtune.data.contract import ANSWERS, ROWS, check
    from knowtune.tasks.answers import Decoding, answer_distances, answer_rows
    from knowtune.tasks.right_answers import right_answers
    from stages.core.code import code_of
    from stages.core.compute import compute_of
    from stages.core.semantics import vectors_of
    from stages.core.work import work_folder

    settings = params.answers
    decides = [settings.model_dump(exclude={"sketch"}), params.semantics.model_dump(), params.task.model_dump()]
    inputs = [args.train, args.base, Path(params.semantics.path)]
    code = code_of("stages.answers", None, params)
    work = work_folder("answers", [*decides, compute_of(params).__dict__], inputs, code)
    vectors = vectors_of(params, model, tokenizer)
    decoding = Decoding(**settings.model_dump(exclude={"sketch"}))

    def answer(rows: pd.DataFrame, label: str, path: Path) -> None:
        rows = check(rows, ROWS, str(args.train))
        answers = answer_rows(base.task.evaluator, model, tokenizer, rows, decoding, label)
        distances = answer_distances(base.task.evaluator, tokenizer, rows, answers, vectors, decoding)
        columns = {
            "id": rows["id"],
            "answer": answers,
            "correct": [_begins(*pair) for pair in zip(answers, right_answers(rows), strict=True)],
            "num_tokens": [len(row.input_ids) for row in base.task.encode(tokenizer, rows)],
            "distance": distances,
        }
        write_rows(path, check(pd.DataFrame(columns), ANSWERS, "answers"))

    return by_parts(args.train, work, ".jsonl", "answers", answer)


def _begins(answer: str, rights: Sequence[str]) -> bool:
    """Tell whether an answer begins with what is right, whatever white space goes before it."""
    said = answer.lstrip().casefold()
    return any(said.startswith(right.lstrip().casefold()) for right in rights if right.strip())


def _sketches(
    args: argparse.Namespace,
    params: Params,
    base: Base,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    num_rows: int,
) -> None:
    """Sketch gradients part by part; a file each, then one."""
    import numpy as np

    from knowtune.common.files import whole
    from knowtune.common.parts import by_parts
    from knowtune.gradients.sketches import Sketcher, sketch_rows
    from stages.core.code import code_of
    from stages.core.compute import compute_of
    from stages.core.work import work_folder

    settings = params.answers.sketch
    assert settings is not None
    decides = [settings.model_dump(), params.task.model_dump(), compute_of(params).__dict__]
    work = work_folder("sketches", decides, [args.train, args.base], code_of("stages.answers", None, params))
    with Sketcher(model, settings.dimensions, settings.seed) as sketcher:

        def sketch(rows: pd.DataFrame, label: str, path: Path) -> None:
            encoded = base.task.encode(tokenizer, rows)
            found = sketch_rows(sketcher, encoded, base.task, settings.batch_size, label, rows["id"].tolist())
            with path.open("wb") as file:
                np.save(file, found.numpy())

        parts = by_parts(args.train, work, ".npy", "sketches", sketch)
    with whole(args.out / "sketches.npy") as path:
        shape, start = (num_rows, settings.dimensions), 0
        table = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        for part in parts:
            found = np.load(part)
            table[start : start + len(found)] = found
            start += len(found)
        table.flush()
    print(f"answers: {num_rows} gradients sketched in {settings.dimensions} numbers each")


if __name__ == "__main__":
    sys.exit(command.main("stages.answers"))
