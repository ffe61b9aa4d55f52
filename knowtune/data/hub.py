"""Fetch a model or a data set from the Hugging Face hub, at a pinned revision, into a plain folder.

Everything after this knows folders only. A path in place of a repository's name is a local copy in the hub's layout.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.checkpoints.cards import ORIGIN
from knowtune.common.errors import TransientError, UserError
from knowtune.common.files import whole, write_json
from knowtune.data.parquet_records import parquet_records
from knowtune.models.checkpoint_files import DECIDING_FILES
from knowtune.text.json_cells import to_json
from knowtune.text.templates import is_local, local_path

if TYPE_CHECKING:
    from collections.abc import Sequence

SENTENCE_ENCODER_FILES = ("modules.json", "sentence_bert_config.json", "*_Pooling/config.json")
BATCH = 1_000  # rows of a data set at a time
MODEL_FILES = [*DECIDING_FILES, *SENTENCE_ENCODER_FILES]


def fetch_model(repo: str, revision: str | None, folder: Path) -> None:
    """Fetch weights (safetensors alone), config and tokenizer, and note where they came from.

    Args:
        repo: "owner/name", or the path of a local copy; PACKAGE/name/folder is one in an installed Python package.
        revision: the commit's whole hash; None for a local copy.
        folder: where the files go; links to the hub's own cache where the file system can.

    Raises:
        UserError: no such repository or revision, or no safetensors in it.
        TransientError: the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download

    if is_local(repo):
        source = local_path(repo, "hub")
    else:
        with _explained(repo, revision):
            source = Path(snapshot_download(repo, revision=revision, allow_patterns=MODEL_FILES))
    files = sorted({path for pattern in MODEL_FILES for path in source.glob(pattern)})
    if not any(path.suffix == ".safetensors" for path in files):
        raise UserError(
            f"hub: {repo}: no safetensors weights in it; pickled weights can run code and are not fetched. "
            "Many repositories have a revision with safetensors"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for path in files:
        target = folder / path.relative_to(source)
        target.parent.mkdir(exist_ok=True)
        _link(path.resolve(), target)
    if revision:
        write_json(folder / ORIGIN, {"repo": repo, "revision": revision})


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
        with _explained(repo, revision), whole(folder / f"{split}.jsonl") as part:
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

    from knowtune.common.progress import counted

    labels = {name: kind.names for name, kind in (rows.features or {}).items() if hasattr(kind, "names")}
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        path, writer = Path(temporary) / "rows.parquet", None
        try:
            for table in counted(rows.with_format("arrow").iter(batch_size=BATCH), label):
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


def _link(source: Path, target: Path) -> None:
    """Link a file, or copy it where that cannot be."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _transport_errors() -> tuple[type[Exception], ...]:
    """List what breaks a connection; which client the hub's libraries use follows their version."""
    import importlib

    clients = [name for name in ("httpx", "httpx2") if importlib.util.find_spec(name)]
    return tuple(importlib.import_module(name).TransportError for name in clients)


@contextmanager
def _explained(repo: str, revision: str | None) -> Iterator[None]:
    """Say in our words what the hub's libraries say in theirs."""
    from huggingface_hub import errors

    what = f"hub: {repo}" + (f" at {revision[:8]}" if revision else "")
    try:
        yield
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise UserError(
            f"{what}: not found, or not yours to read ({type(error).__name__}); check `repo` and `revision`, and log "
            "in with `hf auth login` where it is gated"
        ) from error
    except (  # type: ignore[misc]
        errors.OfflineModeIsEnabled,
        errors.LocalEntryNotFoundError,
        errors.HfHubHTTPError,
        ConnectionError,
        *_transport_errors(),
    ) as error:
        answer = error if isinstance(error, errors.HfHubHTTPError) else error.__cause__
        code = answer.response.status_code if isinstance(answer, errors.HfHubHTTPError) else None
        if code is not None and code < 500 and code != 429:
            raise UserError(f"{what}: the hub answers {code}: {str(answer).splitlines()[0]}") from error
        raise TransientError(
            f"{what}: the hub cannot be reached, and this machine's cache does not have it. Try again, or download it "
            "elsewhere and give the folder as `repo`"
        ) from error
    except FileNotFoundError as error:  # datasets' own words for a data set that is not there
        raise UserError(f"{what}: {str(error).splitlines()[0]}") from error
    except ValueError as error:  # UserError among them
        if isinstance(error, UserError):
            raise
        raise UserError(f"{what}: {error}") from error
