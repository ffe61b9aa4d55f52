"""What was recorded of a pipeline: the digests and params of every stage, as a dvc.lock lists them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.common.errors import UserError
from knowtune.lineage.artefacts import Layout
from stages.core.pipeline import project_out, quick_yaml, read_stages
from stages.tracking.lineage import Digest, Locked, digests_of

if TYPE_CHECKING:
    from stages.tracking.origin import Origin

LOCK = "dvc.lock"
FAMILIES = {"filter": ("filters",), "select": ("selections",), "train": ("runs",), "mix": ("mixtures",)}


@dataclass(frozen=True)
class Recorded:
    """A pipeline as it was recorded.

    Args:
        stages: name to digests of deps and outs.
        params: what the stages depended on, nested as in params.yaml.
        of_stage: name to the stage's own params, flat.
        commands: name to `cmd`.
        missing: stages that params.yaml names and nothing records: they have not run.
    """

    stages: Locked
    params: Mapping[str, Any]
    of_stage: Mapping[str, Mapping[str, Any]]
    commands: Mapping[str, str]
    missing: tuple[str, ...] = ()

    @property
    def outs(self) -> dict[str, Digest]:
        """Path to digest of all that was written."""
        return {path: digest for stage in self.stages.values() for path, digest in stage["outs"].items()}

    def md5_of(self, stage: str, path: str) -> str:
        """Return the digest of the out of a stage that a path is or lies in, "" where there is none."""
        outs = self.stages.get(stage, {"outs": {}})["outs"]
        return next((str(outs[name]["md5"]) for name in (path, *map(str, Path(path).parents)) if name in outs), "")

    def read_as(self, source: str) -> str:
        """Return the digest with which a source was read, "" where none did."""
        read = (stage["deps"][source]["md5"] for stage in self.stages.values() if source in stage["deps"])
        return str(next(read, ""))

    def producer(self, path: str) -> str:
        """Return the stage that wrote a path; "" where none did."""
        return next((name for name, stage in self.stages.items() if path in stage["outs"]), "")


def read_recorded(folder: Path) -> Recorded:
    """Read what a project's or workspace's dvc.lock records of the stages that its params.yaml names.

    Raises:
        UserError: nothing was recorded yet, or the file is damaged.
    """
    lock = folder / LOCK
    if not lock.is_file():
        raise UserError(f"{lock.name}: none here, so nothing was made yet; `make run` makes it")
    return as_recorded(quick_yaml(lock), list(read_stages(folder)))


def as_recorded(lock: Mapping[str, Any], wanted: list[str] | None = None) -> Recorded:
    """Take apart a dvc.lock.

    Args:
        lock: as read.
        wanted: the stages that count, in their order; all where it is None. DVC keeps entries of stages that are gone.

    Raises:
        UserError: it is damaged.
    """
    entries = lock.get("stages")
    try:
        if not isinstance(entries, Mapping):
            raise TypeError("no stages in it")
        names = [name for name in (entries if wanted is None else wanted) if name in entries]
        stages = digests_of({name: entries[name] for name in names})
        own = {name: dict((entries[name].get("params") or {}).get("params.yaml", {})) for name in names}
        commands = {name: " ".join(str(entries[name]["cmd"]).split()) for name in names}
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{LOCK}: damaged ({error}); `git checkout {LOCK}` brings it back") from None
    params: dict[str, Any] = {}
    for flat in own.values():
        for key, value in flat.items():
            _put(params, key.split("."), value)
    return Recorded(stages, params, own, commands, tuple(name for name in wanted or () if name not in entries))


def from_origin(origin: Origin) -> Recorded:
    """Take what a store of runs knows of a model."""
    if origin.lock is not None:
        return as_recorded(origin.lock)
    params = origin.params
    own = {name: _sections(name, params) for name in origin.stages}
    return Recorded(origin.stages, params, own, origin.commands)


def _sections(stage: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section of params.yaml that a stage's member has."""
    member = stage.partition("@")[2]
    families = ("filters", "selections", "runs", "mixtures")
    sections = FAMILIES.get(stage.partition("@")[0], ())
    return {f"{key}.{member}": params[key][member] for key in families if key in sections and member in params[key]}


def layout() -> Layout:
    """Say where things lie, by the project's dvc.yaml."""
    stages = {
        "base": "base", "answers": "answers", "rehearsed": "rehearse", "filtered": "filter", "selected": "select",
        "preserved": "preserve", "adapters": "train", "merged": "merge", "mixed": "mix",
    }  # fmt: skip
    folders = {name: project_out(stage).rstrip("/") for name, stage in stages.items()}
    return Layout(prepared=str(Path(project_out("prepare")).parent), **folders)


def _put(params: dict[str, Any], keys: list[str], value: Any) -> None:
    """Put a value where a dotted key says, beside what stands there."""
    for key in keys[:-1]:
        params = params.setdefault(key, {})
    known = params.get(keys[-1])
    params[keys[-1]] = {**known, **value} if isinstance(known, dict) and isinstance(value, Mapping) else value
