"""The artefact of a selection, written and read: rows with score and choice, parameter mask, trace of rounds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from knowtune.artefacts import read_json, read_rows, write_json, write_rows
from knowtune.contract import SELECTED, check
from knowtune.errors import UserError
from knowtune.families import Choice

if TYPE_CHECKING:
    import torch

    from knowtune.base import Base


@dataclass(frozen=True)
class Selected:
    """A selection as read back: rows of the contract with `score` and `chosen`, mask or None, trace."""

    rows: pd.DataFrame
    mask: dict[str, torch.Tensor] | None
    trace: list[dict[str, Any]]


def write_choice(folder: Path, rows: pd.DataFrame, choice: Choice, base_digest: str) -> None:
    """Write a choice. No mask file means that all parameters may be trained; never a list of all indices."""
    table = rows.assign(score=choice.scores.astype(float), chosen=choice.chosen.astype(bool))
    write_rows(folder / "rows.jsonl", check(table, SELECTED, str(folder)))
    write_json(
        folder / "selection.json",
        {"base_digest": base_digest, "mask": choice.mask is not None, "trace": choice.trace},
    )
    if choice.mask is not None:
        from safetensors.torch import save_file

        save_file(choice.mask, folder / "mask.safetensors")


def read_selection(folder: Path, run_seed: int, base: Base) -> Selected:
    """Read the seed of a selection that a run's seed works on.

    Args:
        folder: the selection's folder, with one seed-N folder per seed.
        run_seed: the run's seed; it works on the selection's seed number `run_seed` modulo how many there are, counted
            from the lowest, whatever other seeds the run has.
        base: must be the one the selection was made on.

    Raises:
        UserError: another base, or a broken mask file.
    """
    seeds = sorted(folder.glob("seed-*"), key=lambda path: int(path.name.removeprefix("seed-")))
    if not seeds:
        raise UserError(f"{folder}: no selection in it; run its select stage first")
    chosen = seeds[run_seed % len(seeds)]
    card = read_json(chosen / "selection.json")
    mask = None
    if card["mask"]:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from knowtune.base import require_same_base

        require_same_base(card["base_digest"], base, chosen)
        try:
            mask = load_file(chosen / "mask.safetensors")
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"{chosen / 'mask.safetensors'}: not readable ({error}); run the select stage again"
            ) from error
    rows = read_rows(chosen / "rows.jsonl")
    rows["score"] = rows["score"].astype(float)
    return Selected(check(rows, SELECTED, str(chosen)), mask, card["trace"])
