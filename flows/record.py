"""A version of the registry: the model that the gate lets through, with the record that brings it back.

Each holds the whole model. `promote.keep` bounds how many do; the others keep their record.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from flows.git import changes_of, commit_of, untracked_in
from knowtune.common.files import read_json
from stages.core.champion import FOLDER
from stages.promotion.candidate import Candidate, card_of, tags_of, write_champion_of

if TYPE_CHECKING:
    from stages.core.schema import Params
    from stages.tracking.registry import Registry, Version

KEPT = ("params.yaml", "dvc.lock", "dvc.yaml")  # of a record
VERDICT, CARD, PATCH, TREE, WORKSPACE = "verdict.json", "README.md", "changes.patch", "tree", "workspaces"
CODE = ("knowtune", "stages")  # that stages run


def register(registry: Registry, candidate: Candidate) -> Version:
    """Log the model with its record, and make a version of it."""
    from stages.tracking.releasing import Contents, log_release

    folder = candidate.folder
    commit, patch = commit_of(folder), changes_of(folder)
    tags = tags_of(candidate, commit, bool(patch))
    if folder.parent.name == WORKSPACE:
        tags["workspace"] = folder.name
    text = card_of(candidate, f"models:/{registry.name}@champion")
    work = folder / ".work"
    work.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=work) as top:  # beside the models, so that these need no copy
        record = Path(top) / "record"
        record.mkdir()
        _write_record(candidate, record, text, patch)
        metrics = read_json(candidate.evaluated / "metrics.json")["seeds"][str(candidate.seed)]
        contents = Contents(
            cwd=folder,
            experiment=candidate.params.tracking.experiment,
            key=candidate.key,
            title=candidate.title,
            model=candidate.model,
            base=candidate.base,
            record=record,
            card=candidate.card,
            tags=tags,
            text=text,
            metrics=metrics,
        )
        return registry.register(log_release(registry, contents))


def announce(registry: Registry, candidate: Candidate, champion: Version | None, known: Version | None) -> str:
    """Say which version a promotion would make, and how many bytes would go into the registry and out of it.

    Args:
        registry: of the versions.
        candidate: to be promoted.
        champion: now; None where there is none.
        known: the candidate's version where it is registered already.
    """
    from stages.tracking.addresses import name_of
    from stages.tracking.releasing import size_of, superfluous

    size = _megabytes(size_of((candidate.model, candidate.base)))
    what = f"version {known.number}" if known else f"a new version: {size} go into {name_of()}"
    keep = candidate.params.promote.keep if candidate.params.promote else None
    held = {version.number for version in (champion, known) if version is not None}
    gone = superfluous(registry, keep, new=int(known is None), held=held)
    shown = ", ".join(f"{version.number} ({_megabytes(size)})" for version, size in gone)
    return f"{what}; out of it go the weights of version {shown}, by promote.keep" if gone else what


def prune(registry: Registry, params: Params) -> None:
    """Remove the weights of the versions that `promote.keep` lets go."""
    from stages.tracking.releasing import superfluous

    for version, size in superfluous(registry, params.promote.keep if params.promote else None):
        registry.empty(version)
        print(f"promote.keep: removed the weights of version {version.number}, {_megabytes(size)}; its record stays")


def _megabytes(size: int) -> str:
    """Write a number of bytes for people."""
    return f"{size / 1e6:,.1f} MB"


def _write_record(candidate: Candidate, record: Path, text: str, patch: str) -> None:
    """Write what tells a version's story and brings it back: params, lock, verdict, results, card, changed code.

    Below TREE lies what git does not have: new files of code, and the champion that the gate compared with.
    """
    for name in KEPT:
        shutil.copyfile(candidate.folder / name, record / name)
    (record / VERDICT).write_text(json.dumps(dict(candidate.verdict), indent=2, sort_keys=True), encoding="utf-8")
    (record / CARD).write_text(text, encoding="utf-8")
    if patch:
        (record / PATCH).write_text(patch, encoding="utf-8")
    for name in untracked_in(candidate.folder, *CODE):
        (record / TREE / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(candidate.folder / name, record / TREE / name)
    shutil.copytree(candidate.folder / FOLDER, record / TREE / FOLDER)
    write_champion_of(candidate, record / FOLDER)
