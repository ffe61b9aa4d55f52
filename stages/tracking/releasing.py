"""A model that is to be registered, logged as a whole: the model, its base where it needs one, and its record.

A promotion that was killed while it logged goes on in the same run, with the model that it has logged or with a new
one; a model that was logged by half is never registered.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from knowtune.common.files import file_digest, read_json, write_json
from stages.tracking.book import open_run, tags_of
from stages.tracking.chain import link_source
from stages.tracking.links import link
from stages.tracking.models import columns_of, compute_of, log_model
from stages.tracking.numbers import Seed
from stages.tracking.registry import (
    BASE,
    CANDIDATE,
    CHAMPION,
    DONE,
    EMPTIED,
    MODEL,
    PREVIOUS,
    RECORD,
    Registry,
    Release,
    Version,
    in_our_words,
    lost,
)
from stages.tracking.store import open_experiment

if TYPE_CHECKING:
    from mlflow import MlflowClient

FILES = "files.json"  # of a record: every file of the model, with size and digest


@dataclass(frozen=True)
class Contents:
    """What a version holds.

    Args:
        cwd: the project or a workspace.
        experiment: of the runs.
        key: by which the promotion is known again.
        title: for people.
        model: folder of the merged model.
        base: folder of its base, where it is an adapter on it.
        record: folder of what describes it; FILES is added.
        card: of the merged model.
        tags: of the version.
        text: the model card.
        metrics: of the model.
    """

    cwd: Path
    experiment: str
    key: str
    title: str
    model: Path
    base: Path | None
    record: Path
    card: Mapping[str, Any]
    tags: Mapping[str, str]
    text: str
    metrics: Mapping[str, float]


def log_release(registry: Registry, of: Contents) -> Release:
    """Log a model that is to be registered, in a run of its own."""
    client = registry.client
    with in_our_words():
        experiment = open_experiment(client, of.experiment)
        title, entry = f"promote {of.title}", f"promotion/{of.key}"
        own = {"kind": "promotion", "entry": entry, "mlflow.note.content": of.text, **of.tags}
        run = open_run(client, experiment, title, time.time(), own)
        link_source(client, experiment, run, str(of.card["weights_digest"]))
        uri = _log(client, run, of)
        client.log_batch(run, tags=tags_of({"model": uri}))
        client.set_terminated(run)
    return Release(of.key, of.title, run, uri, of.tags, of.text)


def require_files(registry: Registry, version: Version) -> None:
    """Refuse a version whose model is not as its record says.

    Raises:
        UserError: names what is missing.
    """
    with TemporaryDirectory() as folder:
        wanted = read_json(registry.fetch(version, RECORD, Path(folder)) / FILES)
    there = registry.list_files(version)
    gone = [name for name, entry in wanted.items() if there.get(name) != entry["size"]]
    if gone:
        raise lost(version, ", ".join(gone[:5]) + (f" and {len(gone) - 5} more" if len(gone) > 5 else ""))


def size_of(folders: Iterable[Path | None]) -> int:
    """Count the bytes that a version of these folders copies into the registry."""
    return sum(path.stat().st_size for folder in folders if folder for path in folder.rglob("*") if path.is_file())


def superfluous(
    registry: Registry, keep: int | None, *, new: int = 0, held: Collection[str] | None = None
) -> list[tuple[Version, int]]:
    """Name the versions whose weights are to be removed: without an alias, and not among the last.

    Args:
        registry: of the versions.
        keep: how many of the last keep their weights; None where all do.
        new: how many will be registered before.
        held: numbers of those that our own aliases will point at; those that they point at now by default.

    Returns:
        Pairs of version and bytes.
    """
    if keep is None:
        return []
    versions = registry.versions()
    own = set() if held is None else {CANDIDATE, CHAMPION, PREVIOUS}
    named = {*(held or ()), *(version.number for version in versions if set(version.aliases) - own)}
    old = versions[: max(0, len(versions) + new - keep)]
    gone = [version for version in old if version.number not in named and version.tags.get(EMPTIED) != DONE]
    whole = {version.source for version in versions if version not in gone and not version.emptied}
    return [(version, _weigh(registry, version)) for version in gone if version.source not in whole]


def _weigh(registry: Registry, version: Version) -> int:
    """Count the bytes of a version's weights in the registry."""
    return sum(size for part in (MODEL, BASE) for size in registry.list_files(version, part).values())


def _log(client: MlflowClient, run: str, of: Contents) -> str:
    """Log the model, with folders by the names that every version has."""
    with TemporaryDirectory(dir=of.record.parent) as top:
        laid = {}
        for part, folder in ((MODEL, of.model), (BASE, of.base)):
            if folder is not None:
                laid[part] = Path(top) / part
                link(folder, laid[part])
        write_json(of.record / FILES, dict(_files(laid)))
        config = {"base": None, "compute": compute_of(of.cwd), "columns": columns_of(of.cwd)}
        seed = Seed(metrics=dict(of.metrics), card=dict(of.card))
        return log_model(
            client, run, of.title.replace(" ", "-"), {**laid, RECORD: of.record}, seed, config, time.time(), Path(top)
        )


def _files(folders: Mapping[str, Path]) -> list[tuple[str, dict[str, Any]]]:
    """List the files below some folders, with size and digest."""
    return [
        (f"{name}/{path.relative_to(folder).as_posix()}", {"size": path.stat().st_size, "sha256": file_digest(path)})
        for name, folder in folders.items()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
