"""Look at data: the first rows of a file or of a data set of the hub, how many there are, and which labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from cli.proposing.columns import is_blank
from cli.proposing.paths import preset_path, valid_name
from cli.proposing.repository import Repository, hub_errors, parse_repository
from knowtune.common.errors import UserError
from knowtune.common.progress import progress_unsized
from knowtune.data.delimited import SEPARATORS, separator_of, usual_separator
from knowtune.data.hub import split_records
from knowtune.data.open_text import kind_of
from knowtune.data.records import DELIMITED, READERS, read_records
from knowtune.text import cells

LOOKED = 1_000  # rows that a mapping is guessed from
SCANNED = 1_000_000  # rows that are counted, and searched for labels and ids
LARGE = 100_000  # rows of a data set of the hub that are fetched at most


@dataclass(frozen=True)
class Data:
    """What was seen of the data.

    Args:
        shown: what the user gave.
        name: for a preset.
        records: the first rows.
        count: of all rows; None where it is not known.
        folder: `source.data`.
        files: `source.files` without those that are null.
        hub: the entry under `hub`, by its name.
        labels: names of the labels, where the data says them.
        unsure: what may be otherwise.
    """

    shown: str
    name: str
    records: list[dict[str, Any]]
    count: int | None
    folder: str
    files: dict[str, str]
    hub: dict[str, dict[str, Any]] = field(default_factory=dict)
    labels: dict[str, list[str]] = field(default_factory=dict)
    unsure: tuple[str, ...] = ()


def look_at_data(given: str, root: Path) -> Data:
    """Look at a file or at a data set of the hub.

    Raises:
        UserError: no such file, a broken one, or a data set without a revision.
        TransientError: the hub cannot be reached.
    """
    path = Path(given).expanduser()
    if path.is_file():
        records = [record for _, record in islice(read_records(path), LOOKED)]
        return Data(
            given,
            valid_name(path.stem),
            records,
            None,
            preset_path(path, root),
            {"train": "."},
            unsure=_doubts_of_separator(path),
        )
    repository = parse_repository(given)
    if repository is None or kind_of(path) in READERS:
        allowed = f"a file ending in {', '.join(READERS)}, or a data set of the hub: owner/name@<40 hex>"
        raise UserError(f"DATA: {given}: no such file; allowed: {allowed}")
    if repository.revision is None:
        raise UserError(
            f"DATA: {given}: no such file, and as a data set of the hub it needs the whole hash of a commit, so that "
            f"the same rows come every time: {given}@<40 hex>"
        )
    with hub_errors(f"DATA: {given}"):
        return look_at_hub(repository, given)


def _doubts_of_separator(path: Path) -> tuple[str, ...]:
    """Say what parts the cells of a file where its ending does not say so."""
    if kind_of(path) not in DELIMITED or separator_of(path) == usual_separator(path):
        return ()
    return (f"the cells are parted by {SEPARATORS[separator_of(path)]} (source.separator can say by what)",)


def with_known(data: Data, known: str, root: Path) -> Data:
    """Add a file of rows that the base knows.

    Raises:
        UserError: no such file, a broken one, or not beside the data.
    """
    path, first = Path(known).expanduser(), Path(data.shown).expanduser()
    next(read_records(path))
    place = first.resolve().parent
    if data.hub or path.resolve().parent != place or root.resolve().is_relative_to(place):
        raise UserError(
            f"KNOWN: {known}: must be in the folder of {data.shown}, and that no folder that holds the project, for "
            "`source.data` is that folder"
        )
    folder = preset_path(place, root)
    return replace(data, folder=folder, files={**data.files, "train": first.name, "known": path.name})


def look_at_hub(wanted: Repository, given: str) -> Data:
    """Look at the first rows of a data set of the hub, over the network row by row.

    Raises:
        UserError: it has several configurations, and none is named.
    """
    from datasets import get_dataset_config_names, load_dataset, load_dataset_builder

    repo, revision = wanted.repo, wanted.revision
    configs = get_dataset_config_names(repo, revision=revision)
    config = wanted.config or (configs[0] if len(configs) == 1 else None)
    if config not in configs:
        raise UserError(f"DATA: {given}: it has several parts; name one: {repo}@{revision}:NAME, of {sorted(configs)}")
    info = load_dataset_builder(repo, config, revision=revision).info
    streams = load_dataset(repo, config, revision=revision, streaming=True)
    train = "train" if "train" in streams else next(iter(streams))
    test = next((split for split in ("validation", "test") if split in streams and split != train), None)
    splits = {"train": train, **({"test": test} if test else {})}
    count = info.splits[train].num_examples if info.splits and train in info.splits else None
    features = info.features or streams[train].features or {}
    large = count is None or count > LARGE
    return Data(
        given,
        wanted.name,
        list(split_records(streams[train].take(LOOKED), f"look at {repo}")),
        min(count, LARGE) if count else None,
        f"data/hub/{wanted.name}",
        {role: f"{split}.jsonl" for role, split in splits.items()},
        {wanted.name: {"kind": "dataset", "repo": repo, "revision": revision, "config": config,
                       "splits": list(splits.values()), "streaming": large, "max_rows": LARGE if large else None}},
        {name: list(feature.names) for name, feature in features.items() if hasattr(feature, "names")},
        (f"of each split the first {LARGE:,} rows are fetched (hub.{wanted.name}.max_rows)",) if large else (),
    )  # fmt: skip


def survey(data: Data, columns: dict[str, Any]) -> tuple[Data, dict[str, Any]]:
    """Read the whole file once: count rows, gather labels, see whether ids stay unique.

    Args:
        data: as it was looked at.
        columns: the mapping that is proposed.

    Returns:
        The data with count and labels, and the mapping, without an id where ids come twice.

    Raises:
        UserError: a broken line further down.
    """
    label, row_id = columns.get("label"), columns.get("id")
    whole = not data.hub
    rows: Iterable[tuple[int, dict[str, Any]]] = enumerate(data.records)
    if whole:
        rows = progress_unsized(islice(read_records(Path(data.shown).expanduser()), SCANNED), f"read {data.shown}")
    count, labels, ids, again = 0, dict[str, None](), set[int](), False
    for count, (_, record) in enumerate(rows, start=1):  # noqa: B007
        if label and not is_blank(record.get(label)):
            labels[cells.key_of(record[label])] = None
        if row_id and not again:
            key = hash(str(record.get(row_id)).strip())
            again = key in ids
            ids.add(key)
    unsure = list(data.unsure)
    if again:
        unsure.append(f"{row_id!r} comes twice further down, so it is no id")
    if whole and count == SCANNED:
        unsure.append(f"only the first {SCANNED:,} rows were counted; there may be further labels")
    elif not whole and label and label not in data.labels:
        unsure.append(f"the labels are those of the first {count:,} rows; there may be more")
    by_column = {**data.labels} if not label or label in data.labels else {**data.labels, label: in_order(labels)}
    seen = replace(data, count=count if whole else data.count, labels=by_column, unsure=tuple(unsure))
    return seen, {**columns, "id": None} if again else columns


def in_order(labels: Iterable[str]) -> list[str]:
    """Order label names: numbers by their size, each in its shortest writing; others by the alphabet."""
    names = sorted(labels, key=lambda name: (len(name), name))
    try:
        values = {float(name): name for name in reversed(names)}
    except ValueError:
        return sorted(names)
    return [values[number] for number in sorted(values)]
