"""Paths and names as a preset may hold them, and the hub's names for models and data sets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from knowtune.common.errors import TransientError, UserError

SPECIAL = ("DATA/", "PACKAGE/", "data/hub/")  # beginnings that mean something else in a preset
REPOSITORY = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[0-9a-f]{40}))?(:(?P<config>[\w.-]+))?"
)


@dataclass(frozen=True)
class Repository:
    """A repository of the hub: owner/name@revision, of a data set perhaps :configuration."""

    repo: str
    revision: str | None
    config: str | None

    @property
    def name(self) -> str:
        """A name for the entry under `hub`."""
        return valid_name(self.repo.rpartition("/")[2])


def repository(given: str) -> Repository | None:
    """Read owner/name, owner/name@revision or owner/name@revision:configuration; None for anything else."""
    found = REPOSITORY.fullmatch(given)
    return Repository(found["repo"], found["revision"], found["config"]) if found else None


def written(path: Path, root: Path) -> str:
    """Write a path for a preset: relative to the project where it lies in it, else absolute.

    Raises:
        UserError: the path is not UTF-8.
    """
    whole = path.resolve()
    shown = str(whole.relative_to(root.resolve())) if whole.is_relative_to(root.resolve()) else str(whole)
    try:
        shown.encode()
    except UnicodeEncodeError:
        raise UserError(f"{shown!r}: the name is not UTF-8; rename the file or folder") from None
    return str(whole) if shown.startswith(SPECIAL) else shown


def valid_name(text: str) -> str:
    """Make a name of letters, digits, _ and - of any text."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-_") or "mine"


@contextmanager
def hub_reached(what: str) -> Iterator[None]:
    """Say in our words that the hub has no such thing or cannot be reached, whichever library says it how."""
    from huggingface_hub import errors

    try:
        yield
    except UserError:
        raise
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise UserError(
            f"{what}: not found on the hub, or not yours to read; check the name and the revision, and log in with "
            "`hf auth login` where it is gated"
        ) from error
    except Exception as error:  # each client raises its own, and they change with the version
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise TransientError(f"{what}: the hub cannot be read from here ({first})") from error
