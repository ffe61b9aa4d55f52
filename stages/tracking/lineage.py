"""What a stage read and wrote, each path with DVC's digest, as MLflow datasets and as a file.

MLflow's own digest of a dataset covers its first 10,000 rows only; DVC's covers every byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml.error import YAMLError

from stages.core.pipeline import quick_yaml
from stages.tracking.digests import digest, hidden_by
from stages.tracking.spool import LINKS, LOCK

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

Digest = dict[str, Any]
Locked = Mapping[str, Mapping[str, Mapping[str, Digest]]]  # stage, "deps" or "outs", path
COLUMN_TYPES = {str: "string", bool: "boolean", int: "long", float: "double"}


@dataclass
class Lineage:
    """Paths as dvc.yaml has them, each with DVC's digest; and where the bytes of some lie."""

    deps: dict[str, Digest] = field(default_factory=dict)
    outs: dict[str, Digest] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)

    def out_paths(self) -> dict[str, Path]:
        """Return where the bytes of the outs lie."""
        return {name: self.paths[name] for name in self.outs if name in self.paths}


def read_lineage(note: Mapping[str, Any], folder: Path) -> Lineage:
    """Digest what a note links to; what other stages wrote has its digest in the dvc.lock of that moment.

    Args:
        note: of a stage that ended.
        folder: the note's own.
    """
    cwd = Path(note["cwd"])
    hidden = hidden_by(cwd)
    known = locked_outs(folder / LOCK)
    lineage = Lineage()
    for kind, digests in (("deps", lineage.deps), ("outs", lineage.outs)):
        for i, name in enumerate(note[kind]):
            path = folder / LINKS / kind / str(i)
            if not path.exists():
                if kind == "deps" and name in known:
                    digests[name] = known[name]
                    continue
                path = cwd / name  # another disk: no link leads there
            if path.exists():
                digests[name] = digest(path, name, hidden)
                lineage.paths[name] = path
    return lineage


def locked_outs(lock: Path) -> dict[str, Digest]:
    """Return the digest of every out that a dvc.lock lists."""
    return {name: entry for stage in locked_stages(lock).values() for name, entry in stage["outs"].items()}


def locked_stages(lock: Path) -> Locked:
    """Return, by stage, the digests of deps and outs that a dvc.lock lists; a damaged one lists nothing."""
    try:
        stages = quick_yaml(lock).get("stages", {}) if lock.is_file() else {}
        return digests_of(stages)
    except (YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
        print(f"{lock}: not a whole dvc.lock ({type(error).__name__}); digests of other stages are unknown", flush=True)
        return {}


def digests_of(stages: Mapping[str, Any]) -> Locked:
    """Return the digests of deps and outs of a dvc.lock's stages; what a damaged one raises is the caller's."""
    return {
        name: {kind: {entry["path"]: _figures(entry) for entry in stage.get(kind, ())} for kind in ("deps", "outs")}
        for name, stage in stages.items()
    }


def md5s(digests: Mapping[str, Digest]) -> dict[str, str]:
    """Return path to md5."""
    return {name: str(entry["md5"]) for name, entry in digests.items()}


def is_code(cwd: Path, name: str) -> bool:
    """Say whether a dep is part of the program: it is, or lies in, a Python package."""
    path = cwd / name
    return any((folder / "__init__.py").is_file() for folder in (path, path.parent))


def datasets(digests: Mapping[str, Digest], paths: Mapping[str, Path], context: str) -> Iterable[DatasetInput]:
    """Make MLflow datasets that carry DVC's digest.

    Args:
        digests: path to digest.
        paths: where bytes lie, for the columns and the number of rows.
        context: what MLflow shows beside it, e.g. "dep".
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    for name, entry in digests.items():
        schema, rows = _columns(paths.get(name), name)
        profile = {key: entry[key] for key in ("size", "nfiles") if key in entry} | rows
        dataset = Dataset(
            name=name,
            digest=entry["md5"],
            source_type="dvc",
            source=json.dumps({"path": name, **entry}),
            schema=schema,
            profile=json.dumps(profile),
        )
        yield DatasetInput(dataset, [InputTag("mlflow.data.context", context)])


def _columns(path: Path | None, name: str) -> tuple[str | None, dict[str, int]]:
    """Read a row file's columns from its first row, and count its rows."""
    if path is None or not path.is_file() or not name.endswith(".jsonl"):
        return None, {}
    with path.open("rb") as file:
        first = file.readline()
        count = (1 if first else 0) + sum(1 for _ in file)
    if not first:
        return None, {"num_rows": 0}
    try:
        row = dict(json.loads(first))
    except (ValueError, TypeError):  # a damaged file; its digest says which
        return None, {"num_rows": count}
    columns = [{"name": key, "type": COLUMN_TYPES.get(type(value), "string")} for key, value in row.items()]
    return json.dumps({"mlflow_colspec": columns}), {"num_rows": count, "num_elements": count * len(columns)}


def _figures(entry: Mapping[str, Any]) -> Digest:
    """Take the digest out of an entry of dvc.lock."""
    return {key: entry[key] for key in ("md5", "size", "nfiles") if key in entry}
