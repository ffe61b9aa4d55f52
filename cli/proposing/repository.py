"""A repository of the hub by its name, and what the hub's libraries raise, in our words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cli.proposing.paths import valid_name
from knowtune.common.errors import TransientError, UserError

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


def parse_repository(given: str) -> Repository | None:
    """Read owner/name, owner/name@revision or owner/name@revision:configuration; None for anything else."""
    match = REPOSITORY.fullmatch(given)
    return Repository(match["repo"], match["revision"], match["config"]) if match else None


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
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
