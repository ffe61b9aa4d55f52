"""A version of the registry: the model that the gate lets through, with the record that brings it back."""

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
