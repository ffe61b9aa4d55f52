"""Mix merged models of one base into one checkpoint, one tensor at a time: one model is in memory, the base."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from knowtune.checkpoints.base import Base, require_same_base
from knowtune.checkpoints.cards import COMPOSED, MERGED, for_serving
from knowtune.checkpoints.lazy_weights import open_weights
from knowtune.checkpoints.save import require_written, save_checkpoint
from knowtune.checkpoints.tied_weights import untie, weights_of
from knowtune.common.errors import UserError
from knowtune.common.files import file_digest, read_card, text_digest, write_json
from knowtune.merging.mixtures.base import Mixture


@torch.no_grad()
def mix(
    member: Mixture, folders: list[Path], weights: list[float], base: Base, folder: Path, seed: int
) -> dict[str, float]:
    """Mix merged models by their task vectors, merged - base, one tensor at a time, and write a checkpoint.

    Args:
        member: how to combine.
        folders: one merged model per run.
        weights: one per model; normalised to sum 1.
        base: the common base.
        folder: where the mixture goes.
        seed: for what is random in the mixture.

    Returns:
        The L2 norm of each model's task vector and of the mixture's.

    Raises:
        UserError: a model is composed, damaged, or of another base.
    """
    for source in folders:
        if (source / COMPOSED).is_file():
            raise UserError(f"{source}: a composed artefact has no plain weights to mix; choose a run that folds")
        card = read_card(source / MERGED, {"base_digest": str}, "merge")
        require_same_base(card["base_digest"], base, source)
    share = torch.tensor(weights, dtype=torch.float32) / sum(weights)
    torch.manual_seed(seed)  # a base without a head gets a new one, from which all heads are measured
    model = base.exact().model()
    squares = [0.0] * (len(folders) + 1)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        files = [Path(scratch) / f"{number}.safetensors" for number in range(len(folders) + 1)]
        sources = [open_weights(source, model, base, file) for source, file in zip(folders, files, strict=False)]
        if any(source.untied for source in sources):
            untie(model)
        mixed = weights_of(model)
        for number, name in enumerate(sorted(model.state_dict())):
            if name not in mixed:
                continue  # the second name of a tied weight
            origin = mixed[name].detach().float().cpu()
            deltas = [source[name].float() - origin for source in sources]
            delta = member.combine(deltas, share, seed + number)
            for i, tensor in enumerate([*deltas, delta]):
                squares[i] += float(tensor.double().square().sum())
            mixed[name].copy_(origin + delta)
        save_checkpoint(model, base, folder)
        require_written(model, open_weights(folder, model, base, files[-1]), folder)
    written = {path.name: file_digest(path) for path in sorted(folder.glob("*.safetensors"))}
    described = {"base_digest": base.digest, "weights_digest": text_digest(written), **for_serving(card)}
    write_json(folder / MERGED, {"kind": "mixed", **described})
    names = [source.parent.name for source in folders]
    return {name: value**0.5 for name, value in zip([*names, "mixture"], squares, strict=True)}
