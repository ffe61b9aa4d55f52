"""Names of the cards beside models, and the card of a base."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from knowtune.common.files import file_digest, read_json, text_digest
from knowtune.models.admission import admit
from knowtune.models.checkpoint_files import (
    DECIDING_FILES,
)

CARD = "base.json"
ORIGIN = "hub.json"  # beside a model fetched from a hub: repository and revision
ADAPTER_CARD = "knowtune.json"  # beside every trained adapter; carries the digest of its base
MERGED = "merged.json"  # beside every merged model; carries the digest of its base
COMPOSED = "composed.json"  # beside a merged model that stays base + adapter; names the method that puts them together


def make_card(folder: Path, identity: str) -> dict[str, Any]:
    """Describe a model folder by the digest of each file that decides what it computes.

    Args:
        folder: a folder in transformers layout.
        identity: the name that results show, e.g. "embedded" or the folder's name; never a whole path. A model fetched
            from a hub is named after its repository and revision.

    Raises:
        UserError: see `knowtune.models.admission.admit`.
    """
    admitted = admit(folder)
    files = {
        path.relative_to(folder).as_posix(): file_digest(path)
        for path in sorted({path for pattern in DECIDING_FILES for path in folder.glob(pattern) if path.is_file()})
    }
    origin = read_json(folder / ORIGIN) if (folder / ORIGIN).is_file() else None
    return {
        "identity": f"{origin['repo']}@{origin['revision'][:8]}" if origin else identity,
        "origin": origin,
        "digest": text_digest(files),
        "files": files,
        "sizes": {name: (folder / name).stat().st_size for name in files},
        "context": admitted.context,
        "architecture": admitted.architecture,
        "notes": admitted.notes,
    }


def for_serving(card: Mapping[str, Any]) -> dict[str, Any]:
    """Give what `knowtune.serving` needs of a card: the task, and a row that was trained."""
    return {key: card[key] for key in ("task", "example") if key in card}
