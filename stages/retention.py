"""Measure the pristine base on one set of `evaluate.retention`, row by row, twice: the second gives the noise floor.

A row that is trained, may be replayed or is quoted by what may be stops the stage. Where only that has changed, nothing
is measured again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.runner import command

if TYPE_CHECKING:
    from stages.core.schema import Params

EXAMPLE = "python -m stages.retention --name capitals --path sets/capitals.jsonl --train data/prepared/train.jsonl \\\n    --replay data/prepared/replay.jsonl --texts data/prepared/replay_texts.jsonl \\\n    --rehearsed data/rehearsed --base data/base --out data/baseline/retention/capitals"  # noqa: E501

WROTE = "sequences that the base wrote (another rehearse.seed draws others)"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--name", required=True, help="the set's name in evaluate.retention")
    parser.add_argument("--path", type=Path, required=True, help="its file")
    parser.add_argument("--train", type=Path, required=True, help="training rows, none of which may be in it")
    parser.add_argument("--replay", type=Path, required=True, help="rows that may be replayed, neither")
    parser.add_argument("--texts", type=Path, required=True, help="texts that may be replayed, which quote none")
    parser.add_argument("--rehearsed", type=Path, required=True, help="the rehearse stage's folder, sequences likewise")
    parser.add_argument("--base", type=Path, required=True, help="the base stage's folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for rows, results and metrics")


def run(args: argparse.Namespace, params: Params) -> None:
    """Write the rows, the rejected ones, the base's results with those at another batch size, and metrics."""
    import pandas as pd

    from knowtune.common.files import read_json, read_rows, replace_folder, tree_digest, write_json, write_rows
    from knowtune.data.contract import ROW_COLUMNS
    from knowtune.data.retention_sets import SetFile, read_set, refuse_known_rows
    from knowtune.evaluation.harness import task_rows
    from knowtune.evaluation.retention import describe, measure
    from knowtune.preserve.sources import SEQUENCES
    from stages.core.code import code_of
    from stages.core.compute import compute_of
    from stages.core.models import open_base
    from stages.core.retention import reading_of, set_of, task_of
    from stages.core.schema import FactSet, HarnessSet, LabelSet, TextSet
    from stages.core.work import work_folder

    base, section = open_base(params, args.base), params.evaluate.retention[args.name]
    how, others = reading_of(params), {"are trained": args.train, "may be replayed": args.replay}
    texts = {"texts that may be replayed": args.texts, WROTE: args.rehearsed / SEQUENCES}
    columns: dict[str, Any] = section.columns.model_dump() if isinstance(section, FactSet | LabelSet) else {}
    if isinstance(section, TextSet):
        columns = {"text": section.column}
    labels = section.labels if isinstance(section, LabelSet) else ()
    file = SetFile(args.name, args.path, columns, labels, section.max_rows)
    if isinstance(section, HarnessSet):
        rows = task_rows(task_of(args.name, section))
        rejected = rows.head(0)
    else:
        rows, rejected = read_set(file, base)
    trained = {what: read_rows(path, ROW_COLUMNS) for what, path in others.items()}
    refuse_known_rows(file, rows, trained, {what: read_rows(path, ["id", "text"]) for what, path in texts.items()})
    decides = [
        section.model_dump(exclude={"path"}),
        how.__dict__,
        compute_of(params).__dict__,
        params.task.model_dump(),
    ]
    inputs, code = [args.path, args.base], code_of("stages.retention", section, params)
    finished = work_folder(f"retention-{args.name}", decides, inputs, code) / "finished"
    if finished.is_dir():
        print(f"retention {args.name}: measured already", file=sys.stderr)
    else:
        on, model, label = set_of(args.name, section, rows), base.model(), "retention"
        results = measure(on, model, base, how, label)
        again = measure(on, model, base, how.at_another_batch_size(), f"{label}, again")
        judged = [column for column in ("correct", "loss") if column in again]
        fresh = finished.with_name("fresh")
        write_rows(fresh / "rows.jsonl", rows)
        write_rows(fresh / "rejected.jsonl", rejected)
        write_rows(fresh / "examples.jsonl", pd.concat([results, again[judged].add_prefix("again_")], axis=1))
        files = {"digest": tree_digest(args.path)} if section.kind == "harness" else {}  # of more than its rows
        write_json(fresh / "metrics.json", {**describe(on, results, again, len(rejected)), **files})
        fresh.rename(finished)
    replace_folder(finished, args.out)
    metrics = read_json(args.out / "metrics.json")
    print(f"retention {args.name}: {metrics}")
    if metrics["rejected"]:
        print(f"retention {args.name}: caution: {metrics['rejected']} rows are rejected", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(command.main("stages.retention"))
