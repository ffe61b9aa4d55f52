"""Mix merged models of one base into one plain checkpoint, one tensor at a time.

All models come through transformers' own loader, for on disk weights may have other names and shapes than in memory.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from knowtune.artefacts import file_digest, read_card, text_digest, write_json
from knowtune.base import COMPOSED, MERGED, Base, load_model, require_matching, require_same_base
from knowtune.errors import UserError
from knowtune.families import Mixture
from knowtune.weight_files import untie, weights_of, write_plain


@torch.no_grad()
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
    for source in folders:
        if (source / COMPOSED).is_file():
            raise UserError(f"{source}: a composed artefact has no plain weights to mix; choose a run that folds")
        require_same_base(read_card(source / MERGED, {"base_digest": str}, "merge")["base_digest"], base, source)
    share = torch.tensor(weights, dtype=torch.float32) / sum(weights)
    torch.manual_seed(seed)  # a base without a head gets a new one, from which all heads are measured
    exact, here = base.exact(), replace(base.compute, device="cpu", quantize="none")
    model = exact.model()
    sources = [load_model(source, here, base.task, trained=True) for source in folders]
    if any(len(weights_of(source)) > len(weights_of(model)) for source in sources):
        untie(model)
    mixed, states = weights_of(model), [source.state_dict() for source in sources]
    for source, state in zip(folders, states, strict=True):
        require_matching(source, mixed.keys() - state.keys(), state.keys() - model.state_dict().keys())
    squares = [0.0] * (len(folders) + 1)
    for number, name in enumerate(sorted(model.state_dict())):
        if name not in mixed:
            continue  # the second name of a tied weight
        origin = mixed[name].detach().float().cpu()
        changes = [state[name].float() - origin for state in states]
        change = member.combine(changes, share, seed + number)
        for i, tensor in enumerate([*changes, change]):
            squares[i] += float(tensor.double().square().sum())
        mixed[name].copy_(origin + change)
    write_plain(model, base, folder)
    written = {path.name: file_digest(path) for path in sorted(folder.glob("*.safetensors"))}
    write_json(folder / MERGED, {"kind": "mixed", "base_digest": base.digest, "weights_digest": text_digest(written)})
    names = [source.parent.name for source in folders]
    return {name: value**0.5 for name, value in zip([*names, "mixture"], squares, strict=True)}
