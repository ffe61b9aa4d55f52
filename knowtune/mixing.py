"""Mix merged models of one base into one plain checkpoint, one tensor at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from knowtune.artefacts import file_digest, read_json, text_digest, write_json
from knowtune.base import COMPOSED, MERGED, Base, require_same_base
from knowtune.errors import UserError
from knowtune.families import Mixture


def mix(
    member: Mixture, folders: list[Path], weights: list[float], base: Base, folder: Path, seed: int
) -> dict[str, float]:
    """Mix merged models by their changes against the base, one tensor at a time, and write a plain checkpoint.

    Args:
        member: how to combine.
        folders: one merged model per run.
        weights: one per model; normalised to sum 1.
        base: the common base.
        folder: where the mixture goes.
        seed: for what is random in the mixture.

    Returns:
        The L2 norm of each model's change and of the mixture's.

    Raises:
        UserError: a model is composed, or of another base.
    """
    from safetensors import safe_open

    for source in folders:
        if (source / COMPOSED).is_file():
            raise UserError(f"{source}: a composed artefact has no plain weights to mix; choose a run that folds")
        require_same_base(read_json(source / MERGED)["base_digest"], base, source)
    files: list[list[Any]] = [
        [safe_open(path, framework="pt") for path in sorted(source.glob("*.safetensors"))] for source in folders
    ]
    where = [{key: file for file in group for key in file.keys()} for group in files]  # noqa: SIM118
    share = torch.tensor(weights, dtype=torch.float32) / sum(weights)
    torch.manual_seed(seed)  # a base without a head gets a new one, from which all heads are measured
    model = base.exact().model()
    squares = [0.0] * (len(folders) + 1)
    for number, (name, parameter) in enumerate(sorted(model.state_dict().items())):
        having = [source.name for source, tensors in zip(folders, where, strict=True) if name in tensors]
        if not having:
            continue  # tied weights are saved once, under their first name
        if len(having) < len(folders):
            raise UserError(f"{folder}: only some of the models have {name}, so they cannot be mixed")
        origin = parameter.detach().float().cpu()
        changes = [tensors[name].get_tensor(name).float() - origin for tensors in where]
        change = member.combine(changes, share, seed + number)
        for i, tensor in enumerate([*changes, change]):
            squares[i] += float(tensor.double().square().sum())
        parameter.copy_(origin + change)
    model.to(dtype=base.compute.resolved_dtype()).save_pretrained(folder)  # type: ignore[call-arg]
    base.tokenizer().save_pretrained(folder)
    written = {path.name: file_digest(path) for path in sorted(folder.glob("*.safetensors"))}
    write_json(folder / MERGED, {"kind": "mixed", "base_digest": base.digest, "weights_digest": text_digest(written)})
    names = [source.parent.name for source in folders]
    return {name: value**0.5 for name, value in zip([*names, "mixture"], squares, strict=True)}
