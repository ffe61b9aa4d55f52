"""The registry: versions of one named model in MLflow, with aliases, read and written in few steps.

    candidate   the version that was registered last
    champion    the one that the gate let through; it is the one to be used
    previous    the champion before it

A version is whole when it is there: its model is logged before it, and its tags come with it. Only aliases move.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.common.errors import UserError
from knowtune.common.secrets import mask
from stages.tracking.addresses import name_of
from stages.tracking.store import at_home, in_words, open_store

if TYPE_CHECKING:
    from mlflow import MlflowClient

CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
KEY, VERDICT, ROLLED_BACK = "promotion.key", "gate.verdict", "promotion.rolled_back"
EMPTIED, BEGUN, DONE = "promotion.emptied", "begun", "done"  # its weights were removed, its record is there
RECORD, MODEL, BASE = "record", "model", "base"  # folders of a version's files
LONGEST_CARD = 4500  # characters of a version's description


@dataclass(frozen=True)
class Version:
    """A version of the model.

    Args:
        name: of the model.
        number: of the version.
        tags: as it was registered with.
        aliases: that point at it.
        source: where its files lie, as MLflow names it.
    """

    name: str
    number: str
    tags: Mapping[str, str]
    aliases: tuple[str, ...] = ()
    source: str = ""

    @property
    def uri(self) -> str:
        """Name the version as MLflow does."""
        return f"models:/{self.name}/{self.number}"

    @property
    def has_verdict(self) -> bool:
        """Tell whether the gate let it through."""
        return self.tags.get(VERDICT) == "ship"

    @property
    def rolled_back(self) -> bool:
        """Tell whether somebody took it out of use, so that no verdict alone brings it back."""
        return self.tags.get(ROLLED_BACK) == "true"

    @property
    def emptied(self) -> bool:
        """Tell whether its weights were removed, or begun to be."""
        return EMPTIED in self.tags


@dataclass(frozen=True)
class Release:
    """What becomes a version.

    Args:
        key: by which it is known again, so that a promotion that was cut short goes on.
        title: for people.
        run: id of the run that its model is logged with.
        model: address of the logged model.
        tags: of the version.
        card: the model card.
    """

    key: str
    title: str
    run: str
    model: str
    tags: Mapping[str, str] = field(default_factory=dict)
    card: str = ""


class Registry:
    """The versions of one model in one store.

    Args:
        client: of the store.
        name: of the model.
    """

    def __init__(self, client: MlflowClient, name: str) -> None:
        self.client = client
        self.name = name

    def versions(self) -> list[Version]:
        """List all versions, the oldest first."""
        with in_our_words():
            if not self.client.search_registered_models(f"name='{self.name}'"):
                return []
            aliases = self._aliases()
            found = self.client.search_model_versions(f"name='{self.name}'")
        return sorted((self._version(one, aliases) for one in found), key=lambda version: int(version.number))

    def version(self, number: str) -> Version:
        """Find a version.

        Raises:
            UserError: there is none of this number.
        """
        known = {version.number: version for version in self.versions()}
        if number not in known:
            there = ", ".join(known) or "none yet"
            raise UserError(f"{self.name}: no version {number} in the registry {name_of()}; there: {there}")
        return known[number]

    def by_alias(self, alias: str) -> Version | None:
        """Find the version that an alias points at; None where it points at none."""
        return next((version for version in self.versions() if alias in version.aliases), None)

    def by_key(self, key: str) -> Version | None:
        """Find the version that a promotion has registered and that has its weights."""
        found = (version for version in self.versions() if version.tags.get(KEY) == key and not version.emptied)
        return next(found, None)

    def register(self, release: Release) -> Version:
        """Make a version of a logged model, whole."""
        from mlflow.exceptions import MlflowException

        tags = {**release.tags, KEY: release.key, VERDICT: "ship"}
        with in_our_words():
            try:
                self.client.create_registered_model(self.name, description="Models that the gate let through.")
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            card = release.card if len(release.card) <= LONGEST_CARD else f"{release.card[:LONGEST_CARD]}…"
            number = release.model.rpartition("/")[2]
            with at_home(self.client):
                made = self.client.create_model_version(
                    self.name, release.model, release.run, tags, description=card, model_id=number
                )
            return self._version(made, self._aliases())

    def point(self, alias: str, number: str) -> None:
        """Let an alias point at a version."""
        with in_our_words():
            self.client.set_registered_model_alias(self.name, alias, number)

    def mark(self, number: str, *, rolled_back: bool) -> None:
        """Note whether a version was taken out of use."""
        with in_our_words():
            self.client.set_model_version_tag(self.name, number, ROLLED_BACK, str(rolled_back).lower())

    def empty(self, version: Version) -> None:
        """Remove a version's weights, and keep its record; a try that was cut short is gone on with."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        model_id = version.source.rpartition("/")[2]
        with in_our_words():
            self.client.set_model_version_tag(self.name, version.number, EMPTIED, BEGUN)
            self.client.finalize_logged_model(model_id, "FAILED")  # so that a later promotion of it fills it again
            place = self.client.get_logged_model(model_id).artifact_location
            for part in (MODEL, BASE):
                if self.list_files(version, part):
                    files: Any = get_artifact_repository(place, self.client.tracking_uri)
                    files.delete_artifacts(f"artifacts/{part}")
            self.client.set_model_version_tag(self.name, version.number, EMPTIED, DONE)

    def fetch(self, version: Version, part: str, folder: Path) -> Path:
        """Copy a part of a version's files into a folder.

        Args:
            version: whose.
            part: RECORD, MODEL or BASE.
            folder: to copy into.

        Returns:
            Where the part lies.

        Raises:
            UserError: the version has lost its files.
        """
        from mlflow.artifacts import download_artifacts

        try:
            model = self.client.get_logged_model(version.source.rpartition("/")[2])
            uri = f"{model.artifact_location}/artifacts/{part}"
            found = Path(download_artifacts(uri, dst_path=str(folder), tracking_uri=self.client.tracking_uri))
        except Exception as error:
            raise lost(version, in_words(error)) from None
        if not found.is_dir() or not any(found.iterdir()):
            raise lost(version, f"{part} is empty")
        return found

    def list_files(self, version: Version, part: str = "") -> dict[str, int]:
        """Name the files of a version below a part, with their sizes."""
        model_id = version.source.rpartition("/")[2]
        with in_our_words():
            return dict(self._walk(model_id, "/".join(["artifacts", *([part] if part else [])])))

    def _walk(self, model_id: str, path: str) -> Iterator[tuple[str, int]]:
        """List files below a path, relative to the version's own."""
        for entry in self.client.list_logged_model_artifacts(model_id, path):
            if entry.is_dir:
                yield from self._walk(model_id, entry.path)
            else:
                yield entry.path.removeprefix("artifacts/"), int(entry.file_size or 0)

    def _aliases(self) -> dict[str, list[str]]:
        """Return the aliases of each version."""
        aliases: dict[str, list[str]] = {}
        for alias, number in self.client.get_registered_model(self.name).aliases.items():
            aliases.setdefault(str(number), []).append(alias)
        return aliases

    def _version(self, made: Any, aliases: Mapping[str, list[str]]) -> Version:
        """Take of MLflow's version what is needed."""
        number = str(made.version)
        return Version(self.name, number, dict(made.tags), tuple(aliases.get(number, ())), str(made.source))


def open_registry(name: str) -> Registry:
    """Open the registry that MLFLOW_TRACKING_URI names, else the project's own.

    Raises:
        UserError: it does not answer, or MLflow takes no such address.
    """
    with in_our_words():
        return Registry(open_store(), name)


def lost(version: Version, what: str) -> UserError:
    """Make the error of a version whose files are not all there."""
    why = "its weights were removed (promote.keep)" if version.emptied else f"its files are lost ({mask(what)})"
    return UserError(
        f"{version.uri}: {why}; "
        f"as long as its record is there, `python -m flows.restore {version.uri}` brings back what DVC has"
    )


@contextmanager
def in_our_words() -> Iterator[None]:
    """Say of an error of the registry where it lies and what it is, without secrets."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"registry {name_of()}: {mask(in_words(error))}") from None
