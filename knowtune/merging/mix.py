"""Mix merged models of one base into one checkpoint, one tensor at a time: one model is in memory, the base."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from knowtune.checkpoints.base import Base, require_same_base
from knowtune.checkpoints.cards import COMPOSED, MERGED, for_serving
from knowtune.checkpoints.lazy_weights import open_weights
from knowtune.checkpoints.save import require_written, save_checkpoint
from knowtune.checkpoints.tied_weights import untie, weights_of
from knowtune.common.errors import UserError
from knowtune.common.files import file_digest, read_card, text_digest, write_json
from knowtune.merging.mixtures.base import Mixture, Position
from knowtune.models.blocks import block_of, stacks_of
from knowtune.models.heads import head_parameters

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def mix(
    member: Mixture, folders: list[Path], weights: list[float], base: Base, folder: Path, seed: int
) -> dict[str, float]:
    """Mix merged models and write a checkpoint.

    Args:
        member: how to combine.
        folders: of merged models, RUN/seed-N.
        weights: one per model; normalised to sum 1.
        base: the common base.
        folder: where the mixture goes.
        seed: for what is random in the mixture.

    Returns:
        The L2 norm of each model's task vector, by its run, or by run and seed where several are of one; and of the
        mixture's.

    Raises:
        UserError: a model is composed, damaged, or of another base, or the mixture cannot mix it.
    """
    model, squares = mixed_model(member, folders, weights, base, folder, seed)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        save_checkpoint(model, base, folder)
        require_written(model, open_weights(folder, model, base, Path(scratch) / "written.safetensors"), folder)
    written = {path.name: file_digest(path) for path in sorted(folder.glob("*.safetensors"))}
    card = _read_card(folders[-1])
    described = {"base_digest": base.digest, "weights_digest": text_digest(written), **for_serving(card)}
    write_json(folder / MERGED, {"kind": "mixed", **described})
    runs = [source.parent.name for source in folders]
    names = runs if len(set(runs)) == len(runs) else [f"{source.parent.name}/{source.name}" for source in folders]
    return {name: value**0.5 for name, value in zip([*names, "mixture"], squares, strict=True)}


@torch.no_grad()
def mixed_model(
    member: Mixture, folders: list[Path], weights: list[float], base: Base, folder: Path, seed: int
) -> tuple[PreTrainedModel, list[float]]:
    """Mix merged models by their task vectors, merged - base, one tensor at a time.

    What is not of floating point (counters, tables of positions) stays the base's, but where one model comes out whole.

    Args: as of `mix`; beside `folder` lies, for a while, what cannot be read as it is stored.

    Returns:
        The mixture in float32, in evaluation mode; the squared L2 norm of each model's task vector and of the
        mixture's.

    Raises:
        UserError: a model is composed, damaged, or of another base, or the mixture cannot mix it.
    """
    for source in folders:
        require_same_base(_read_card(source)["base_digest"], base, source)
    share = torch.tensor(weights, dtype=torch.float32) / sum(weights)
    torch.manual_seed(seed)  # a base without a head gets a new one, from which all heads are measured
    model = base.exact().model()
    squares, alone = [0.0] * (len(folders) + 1), len(folders) == 1 and member.fewest_runs == 1
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        files = [Path(scratch) / f"{number}.safetensors" for number in range(len(folders))]
        sources = [open_weights(source, model, base, file) for source, file in zip(folders, files, strict=True)]
        if any(source.untied for source in sources):
            untie(model)
        mixed, stacks, head = weights_of(model), stacks_of(model), head_parameters(model)
        for number, name in enumerate(sorted(model.state_dict())):
            if name not in mixed:
                continue  # the second name of a tied weight
            kept = _kept_share(member, Position(*block_of(name, stacks), in_head=name in head), base)
            if not mixed[name].is_floating_point():
                if alone and kept == 1:
                    mixed[name].copy_(sources[0][name])
                continue
            origin = mixed[name].detach().float().cpu()
            tuned = [source[name].float() for source in sources]
            deltas = [tensor - origin for tensor in tuned]
            delta = member.combine(deltas, share, seed + number)
            for i, tensor in enumerate([*deltas, kept * delta]):
                squares[i] += float(tensor.double().square().sum())
            mixed[name].copy_(_between(origin, tuned[0] if alone else origin + delta, kept))
    return model, squares


def _read_card(source: Path) -> dict[str, Any]:
    """Read the card of a merged model that has plain weights.

    Raises:
        UserError: it has none.
    """
    if (source / COMPOSED).is_file():
        raise UserError(f"{source}: a composed artefact has no plain weights to mix; choose a run that folds")
    return read_card(source / MERGED, {"base_digest": str}, "merge")


def _kept_share(member: Mixture, position: Position, base: Base) -> float:
    """Ask a mixture for lambda.

    Raises:
        UserError: it has none for a model such as this.
    """
    try:
        return member.kept_share(position)
    except ValueError as error:
        raise UserError(f"{base.folder}: {error}") from None


def _between(origin: torch.Tensor, end: torch.Tensor, share: float) -> torch.Tensor:
    """Go a share of the way; the ends themselves, bit for bit, at 0 and 1, for (b - a) + a is not b."""
    if share in (0, 1):
        return end if share else origin
    return torch.lerp(origin, end, share)
