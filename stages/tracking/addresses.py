"""Stores by address and by name: what notes, logs and messages say is the address without its secrets."""

from __future__ import annotations

import os

from knowtune.common.files import text_digest
from knowtune.common.secrets import HIDDEN, mask
from stages.tracking.paths import project_root


def address(uri: str | None = None) -> str:
    """Return the store's URI: the one given, else the environment's, else the project's own file."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project_root() / 'mlflow.db'}"


def name_of(uri: str | None = None) -> str:
    """Return what a store is called in notes, logs and messages: its address without secrets."""
    return mask(address(uri))


def lock_of(what: str, name: str) -> str:
    """Return the name of a lock: the project's own store has the plain one, any other store one of its own."""
    own = name == mask(f"sqlite:///{project_root() / 'mlflow.db'}")
    return what if own else f"{what}-{text_digest(name)[:12]}"


def address_of(name: str) -> str:
    """Return the address of a store; its secrets are those of this process's environment, and are kept nowhere.

    Raises:
        StoreError: they are not there.
    """
    if name == name_of():
        return address()
    if HIDDEN in name:
        raise StoreError("its password or token is not in this run's environment")
    return name


class StoreError(Exception):
    """A store that cannot be worked with now."""
