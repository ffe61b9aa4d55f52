"""Read the source, judge its rows, plant damage, and write the tables that every later stage reads.

Rows read = training, validation, test rows + rejected ones (with reasons). What was planted lies apart, for the
report alone.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stages.core import command
from stages.core.schema import EmbeddedSource, Params

EXAMPLE = "python -m stages.prepare --data data/raw --text data/raw/text.jsonl --out data/prepared"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--data", type=Path, required=True, help="folder of the source's files")
    parser.add_argument("--text", type=Path, required=True, help="JSON-lines file of general text")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")


def run(args: argparse.Namespace, params: Params) -> None:
    """Write train, validation, test, retention, rejected, planted and a summary."""
    from knowtune.artefacts import write_json, write_rows
    from knowtune.preparing import prepare, read_embedded, read_jsonl

    source = params.source
    if isinstance(source, EmbeddedSource):
        counts = source.wordings
        raw = read_embedded(args.data, args.text, counts.train, counts.validation, counts.test)
    else:
        raw = read_jsonl(args.data, args.text, source.files.model_dump(), source.columns.model_dump())
    made = prepare(raw, **{**dict(params.prepare), "damage": params.prepare.damage.model_dump()})
    for table in ("train", "validation", "test", "retention", "rejected", "planted"):
        write_rows(args.out / f"{table}.jsonl", getattr(made, table))
    write_json(args.out / "summary.json", made.summary)
    print(f"prepare: {made.summary}")


if __name__ == "__main__":
    sys.exit(command.main("stages.prepare"))
