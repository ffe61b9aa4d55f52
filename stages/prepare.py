"""Read the source, judge its rows, inject label noise, and write the tables that every later stage reads.

Rows read = training, validation, test rows + rejected ones (with reasons). What was injected lies apart, for the report
alone. Where too many rows are rejected, the rejected ones alone are written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stages.runner import command

if TYPE_CHECKING:
    from stages.core.schema import Params

EXAMPLE = "python -m stages.prepare --data data/raw --text data/raw/text.jsonl --replay-text data/raw/text.jsonl \\\n    --base data/base --out data/prepared"  # noqa: E501


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--data", type=Path, required=True, help="folder of the source's files")
    parser.add_argument("--text", type=Path, required=True, help="file of general text")
    parser.add_argument("--replay-text", type=Path, required=True, help="file of the text that may be replayed")
    parser.add_argument("--base", type=Path, required=True, help="the base stage's folder: its tokenizer judges rows")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")


def run(args: argparse.Namespace, params: Params) -> None:
    """Write train, validation, test, retention, rejected, label_noise and a summary."""
    from knowtune.common.errors import UserError
    from knowtune.common.files import write_json, write_rows
    from knowtune.data.column_mapping import reader_for
    from knowtune.data.editing_cases import Cases
    from knowtune.data.missing_labels import check_labels
    from knowtune.data.prepare import Limits, prepare
    from knowtune.data.rejection import RejectedError
    from knowtune.data.replay import Spare
    from knowtune.data.sources import read_embedded, read_files
    from stages.core.models import open_base
    from stages.core.schema import EmbeddedSource

    source, base = params.source, open_base(params, args.base)
    if isinstance(source, EmbeddedSource):
        counts = source.templates
        raw = read_embedded(args.data, args.text, counts.train, counts.validation, counts.test)
        held_out, several_answers = {}, False
    else:
        columns = source.columns.model_dump()
        reader = reader_for(columns, base.task, base.tokenizer())
        files = source.files.model_dump()
        texts = (args.text, source.text_column, source.separator, args.replay_text)
        raw = read_files(args.data, files, reader, columns, *texts)
        if isinstance(reader, Cases):
            print(f"prepare: {reader.summary()}")
        held_out, several_answers = source.held_out.model_dump(), source.several_answers
    spare = Spare(**params.prepare.replay.model_dump())
    limits = Limits(**params.prepare.model_dump(exclude={"label_noise", "replay"}), **held_out, replay=spare)
    try:
        made = prepare(raw, base, limits, params.prepare.label_noise.model_dump(), several_answers=several_answers)
    except RejectedError as error:  # DVC removes what is there before the next try, not now
        path = args.out / "rejected.jsonl"
        write_rows(path, error.rejected)
        raise UserError(f"{error}\nall of them, with their reasons: {path.resolve()}") from None
    for table in ("train", "validation", "test", "retention", "replay", "replay_texts", "rejected", "label_noise"):
        write_rows(args.out / f"{table}.jsonl", getattr(made, table))
    warnings = check_labels(getattr(base.task, "labels", ()), made.train["target"], made.test["target"])
    warnings += made.cautions
    write_json(args.out / "summary.json", {**made.summary, "cautions": warnings})
    print(f"prepare: {made.summary}")
    for warning in warnings:
        print(f"prepare: caution: {warning}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(command.main("stages.prepare"))
