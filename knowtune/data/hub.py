"""Data sets of the Hugging Face hub: fetched at a pinned revision, a split a file of JSON lines.

Everything after this knows folders only. A path in place of a repository's name is a local copy in the hub's layout.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.common.files import whole
from knowtune.common.hub_errors import hub_errors
from knowtune.data.parquet_records import parquet_records
from knowtune.text.json_cells import to_json

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCH = 1_000  # rows of a data set at a time


def fetch_dataset(
    repo: str,
    revision: str | None,
    folder: Path,
    *,
    config: str | None,
    splits: Sequence[str],
    streaming: bool,
    max_rows: int | None,
) -> dict[str, int]:
    """Fetch splits of a data set as JSON lines, one file a split.

    Args:
        repo: "owner/name", or the path of a local copy.
        revision: the commit's whole hash; None for a local copy.
        folder: where SPLIT.jsonl go.
        config: the data set's configuration; None for its only one.
        splits: names.
        streaming: read over the network row by row instead of downloading whole files first.
        max_rows: of each split, the first ones; None for all.

    Returns:
        Rows per split.

    Raises:
        UserError: no such repository, revision, configuration or split.
        TransientError: the hub cannot be reached.
    """
    from datasets import load_dataset

    folder.mkdir(parents=True, exist_ok=True)
    counts = {}
    for split in splits:
        with hub_errors(repo, revision), whole(folder / f"{split}.jsonl") as part:
            rows = load_dataset(repo, config, split=split, revision=revision, streaming=streaming)
            rows = rows if max_rows is None else rows.take(max_rows)
            counts[split] = 0
            with part.open("w", encoding="utf-8") as file:
                for record in split_records(rows, f"fetch {repo}, {split}, {BATCH:,} rows each", folder):
                    file.write(to_json(record) + "\n")
                    counts[split] += 1
    return counts


def split_records(rows: Any, label: str, folder: Path | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a split as records of cells, labels by their names; -1 is no label.

    They go through a Parquet file, since how a column is read follows all of its values.

    Args:
        rows: of `datasets`, streamed or not.
        label: what the progress bar says.
        folder: where that file lies meanwhile; the system's by default.
    """
    import pyarrow.parquet

    from knowtune.common.progress import progress_unsized

    labels = {name: kind.names for name, kind in (rows.features or {}).items() if hasattr(kind, "names")}
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        path, writer = Path(temporary) / "rows.parquet", None
        try:
            for table in progress_unsized(rows.with_format("arrow").iter(batch_size=BATCH), label):
                plain = table.replace_schema_metadata(None)
                writer = writer or pyarrow.parquet.ParquetWriter(path, plain.schema)
                writer.write_table(plain.cast(writer.schema))
        finally:
            if writer:
                writer.close()
        for _, record in parquet_records(path) if writer else ():
            for name, names in labels.items():
                number = record[name]
                record[name] = names[number] if isinstance(number, int) and 0 <= number < len(names) else None
            yield record
