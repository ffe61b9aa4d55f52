"""Models of the Hugging Face hub: fetched at a pinned revision, into a plain folder.

Everything after this knows folders only. A path in place of a repository's name is a local copy in the hub's layout.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from knowtune.checkpoints.cards import ORIGIN
from knowtune.common.errors import UserError
from knowtune.common.files import write_json
from knowtune.common.hub_errors import hub_errors
from knowtune.models.checkpoint_files import DECIDING_FILES
from knowtune.text.templates import is_local, local_path

SENTENCE_ENCODER_FILES = ("modules.json", "sentence_bert_config.json", "*_Pooling/config.json")
MODEL_FILES = [*DECIDING_FILES, *SENTENCE_ENCODER_FILES]


def fetch_model(repo: str, revision: str | None, folder: Path) -> None:
    """Fetch weights (safetensors alone), config and tokenizer, and note where they came from.

    Args:
        repo: "owner/name", or the path of a local copy; PACKAGE/name/folder is one in an installed Python package.
        revision: the commit's whole hash; None for a local copy.
        folder: where the files go; links to the hub's own cache where the file system can.

    Raises:
        UserError: no such repository or revision, or no safetensors in it.
        TransientError: the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download

    if is_local(repo):
        source = local_path(repo, "hub")
    else:
        with hub_errors(repo, revision):
            source = Path(snapshot_download(repo, revision=revision, allow_patterns=MODEL_FILES))
    files = sorted({path for pattern in MODEL_FILES for path in source.glob(pattern)})
    if not any(path.suffix == ".safetensors" for path in files):
        raise UserError(
            f"hub: {repo}: no safetensors weights in it; pickled weights can run code and are not fetched. "
            "Many repositories have a revision with safetensors"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for path in files:
        target = folder / path.relative_to(source)
        target.parent.mkdir(exist_ok=True)
        _link(path.resolve(), target)
    if revision:
        write_json(folder / ORIGIN, {"repo": repo, "revision": revision})


def _link(source: Path, target: Path) -> None:
    """Link a file, or copy it where that cannot be."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
