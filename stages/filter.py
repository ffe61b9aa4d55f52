"""Decide which training rows are worth learning. Kept and dropped rows are both data; every dropped row says why.

Only the columns that the filters read are in memory, in pyarrow's compact form. The rows themselves stream from file to
file, a chunk at a time.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.schema import Params
from stages.runner import command

if TYPE_CHECKING:
    import pandas as pd

    from knowtune.filters.base import Seen
    from knowtune.filters.chain import Chain

EXAMPLE = "python -m stages.filter --name clean --train data/prepared/train.jsonl --answers data/answers \\\n    --out data/filtered/clean"  # noqa: E501


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--name", required=True, help="a name under `filters` in params.yaml")
    parser.add_argument("--train", type=Path, required=True, help="training rows")
    parser.add_argument("--answers", type=Path, required=True, help="folder of the base's answers to them")
    parser.add_argument("--out", type=Path, required=True, help="folder for kept.jsonl, dropped.jsonl, summary.json")


def run(args: argparse.Namespace, params: Params) -> None:
    """Run the chain of strategies on the columns that it reads, then stream the rows into kept and dropped."""
    from knowtune.common.errors import unknown
    from knowtune.common.files import write_json, write_rows
    from knowtune.data.contract import ROWS
    from knowtune.filters import FILTERS
    from knowtune.filters.chain import Limits, decide
    from knowtune.filters.summary import compared, summarise
    from knowtune.registry import member_class

    if args.name not in params.filters:
        raise unknown("filter", args.name, params.filters)
    chosen, where = params.filters[args.name], f"filter {args.name}"
    chain = [(name, member_class(FILTERS, "filter", name)(**chosen.options.get(name, {}))) for name in chosen.strategy]
    group = "target" if params.task.kind == "classification" else "relation"
    limits = Limits(group, chosen.stratify, chosen.allow_lost)
    rows = _gather(args.train, ROWS, _columns(chain))
    seen = _seen(args.answers, chain)
    verdict = decide(rows, seen, chain, where, limits)
    cosines = compared(seen, verdict, chain)
    summary = summarise(rows, seen, verdict, chain, limits, cosines)
    if cosines is not None:
        write_rows(args.out / "cosines.jsonl", cosines)
    del rows, seen, cosines  # before whole rows are read
    _stream(args.train, verdict, chain, args.out, where)
    write_json(args.out / "summary.json", summary)
    read, kept = summary["rows"]["read"], summary["rows"]["kept"]
    print(f"{where}: {read} read, {kept} kept, {read - kept} dropped")


def _columns(chain: Chain) -> list[str]:
    """List the columns of training rows that a chain of filters and its summary read, in their order."""
    from knowtune.data.contract import ROW_COLUMNS

    read = {"id", "relation", "target"}
    for _, member in chain:
        read |= set(ROW_COLUMNS if member.reads is None else member.reads)
    return [name for name in ROW_COLUMNS if name in read]


def _gather(path: Path, schema: Any, columns: list[str]) -> pd.DataFrame:
    """Read some columns of a file of rows as one compact table, and check them."""
    import pandas as pd

    from knowtune.common.files import read_chunks
    from knowtune.data.contract import check, column_types

    table = pd.concat(read_chunks(path, column_types(schema, columns)), ignore_index=True)
    return check(table, schema.select_columns(columns), str(path))


def _seen(answers: Path, chain: Chain) -> Seen:
    """Open what the base said; sketches stay on the disk."""
    import numpy as np

    from knowtune.data.contract import ANSWERS
    from knowtune.filters.base import Seen

    path = answers / "sketches.npy"
    wanted = any("sketches" in member.needs for _, member in chain) and path.exists()
    sketches = np.load(path, mmap_mode="r") if wanted else None
    return Seen(_gather(answers / "answers.jsonl", ANSWERS, list(ANSWERS.columns)), sketches)


def _stream(train: Path, verdict: pd.DataFrame, chain: Chain, out: Path, where: str) -> None:
    """Write each row to kept.jsonl or dropped.jsonl, a checked chunk at a time."""
    from knowtune.common.files import read_chunks, row_writer
    from knowtune.data.contract import ROWS, column_types
    from knowtune.filters.chain import part

    start = 0
    with row_writer(out / "kept.jsonl") as keep, row_writer(out / "dropped.jsonl") as drop:
        for rows in read_chunks(train, column_types(ROWS)):
            kept, dropped = part(rows, verdict.iloc[start : start + len(rows)], chain, where)
            start += len(rows)
            keep(kept)
            drop(dropped)
    if start != len(verdict):
        raise AssertionError("kept + dropped != read")


if __name__ == "__main__":
    sys.exit(command.main("stages.filter"))
