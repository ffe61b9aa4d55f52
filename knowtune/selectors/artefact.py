"""The artefact of a selection, written and read: one folder per seed.

rows.jsonl          rows of the contract with `score` and `chosen`
mask.safetensors    parameter name -> flat indices; without it all parameters may be trained
layers.csv          what the mask keeps of each parameter
selection.json      the card: digest of the base, strategy and options, adapter, trace, how much is protected
selection.svg       all of it in one picture
adapter/            where the parameters are an adapter's: its weights as they were scored
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from knowtune.common.errors import UserError
from knowtune.common.files import parse_json, read_rows, whole, write_json, write_rows
from knowtune.data.contract import SELECTED, check
from knowtune.selectors.base import Choice

if TYPE_CHECKING:
    import torch

    from knowtune.checkpoints.base import Base

CARD = "selection.json"
PICTURE = "selection.svg"
KINDS: dict[str, Any] = {
    "adapter": dict | None,
    "base_digest": str,
    "mask": bool,
    "options": dict,
    "protected": dict | None,
    "strategy": str,
    "trace": list,
}


@dataclass(frozen=True)
class Selected:
    """A selection as read back.

    Args:
        rows: of the contract, with `score` and `chosen`.
        mask: parameter name -> flat indices, or None for all.
        trace: one dict per round, see `knowtune.selectors.trace.Round`.
        layers: see `Choice`, or None.
        card: all of selection.json.
        adapter: folder of the adapter whose parameters the mask names, or None where they are the base's.
    """

    rows: pd.DataFrame
    mask: dict[str, torch.Tensor] | None
    trace: list[dict[str, Any]]
    layers: pd.DataFrame | None
    card: dict[str, Any]
    adapter: Path | None


def write_choice(
    folder: Path,
    rows: pd.DataFrame,
    choice: Choice,
    *,
    base_digest: str,
    strategy: str,
    options: Mapping[str, Any],
    adapter: Mapping[str, Any] | None = None,
    picture: str | None = None,
) -> None:
    """Write a choice. No mask file means that all parameters may be trained; never a list of all indices.

    Args:
        folder: of one seed.
        rows: those chosen among.
        choice: what was chosen.
        base_digest: of the base it was made on.
        strategy: the selector's name.
        options: the selector's, JSON-able.
        adapter: method, type and options of the adapter whose parameters were chosen among; its weights are the
            caller's to write into the folder `adapter` in here.
        picture: of the choice, as SVG. It is made elsewhere, so that who reads a selection does not depend on plots.
    """
    from knowtune.models.masks import write_mask

    table = rows.assign(score=choice.scores.astype(float), chosen=choice.chosen.astype(bool))
    write_rows(folder / "rows.jsonl", check(table, SELECTED, str(folder)))
    for name, part in (("mask.safetensors", choice.mask), ("layers.csv", choice.layers), (PICTURE, picture)):
        if part is None:
            (folder / name).unlink(missing_ok=True)  # of a selection that was here before
    if choice.mask is not None:
        write_mask(folder / "mask.safetensors", choice.mask)
    if choice.layers is not None:
        with whole(folder / "layers.csv") as path:
            choice.layers.to_csv(path, index=False)
    if picture is not None:
        with whole(folder / PICTURE) as path:
            path.write_text(picture, encoding="utf-8")
    card = {
        "adapter": None if adapter is None else dict(adapter),
        "base_digest": base_digest,
        "mask": choice.mask is not None,
        "options": dict(options),
        "protected": choice.protected,
        "strategy": strategy,
        "trace": choice.trace,
    }
    write_json(folder / CARD, card)  # last: a folder with a card is whole


def open_selection(folder: Path) -> Selected:
    """Read all that `write_choice` wrote for one seed.

    Raises:
        UserError: something is missing or broken, each with the file's name.
    """
    from knowtune.models.masks import read_mask

    card = _read_card(folder / CARD)
    mask = read_mask(folder / "mask.safetensors") if card["mask"] else None
    adapter = folder / "adapter" if card["adapter"] is not None else None
    if adapter is not None and not adapter.is_dir():
        raise UserError(f"{adapter}: missing, the selection was made on it; run the select stage again")
    try:
        rows = read_rows(folder / "rows.jsonl")
        rows["score"] = rows["score"].astype(float)
    except UserError as error:
        raise UserError(str(error).replace("the stage that wrote it", "the select stage")) from None
    except (ValueError, KeyError) as error:
        raise UserError(f"{folder / 'rows.jsonl'}: not readable ({error!r}); run the select stage again") from error
    return Selected(check(rows, SELECTED, str(folder)), mask, card["trace"], _read_layers(folder), card, adapter)


def _read_layers(folder: Path) -> pd.DataFrame | None:
    """Read the table of parameters, where there is one; numbers come back as they were, to the last bit."""
    path = folder / "layers.csv"
    if not path.is_file():
        return None
    kinds = {"size": int, "kept": int, "mass": float, "kept_mass": float, "protected": int}
    try:
        table = pd.read_csv(path, dtype="str", keep_default_na=False)
        return table.astype({name: kind for name, kind in kinds.items() if name in table})
    except ValueError as error:
        raise UserError(f"{path}: not readable ({error}); run the select stage again") from error


def _read_card(path: Path) -> dict[str, Any]:
    """Read a card; refuse one that lacks something."""
    try:
        card = parse_json(path)
    except FileNotFoundError:
        raise UserError(f"{path.parent}: no selection in it; run its select stage first") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable ({error}); run the select stage again") from error
    if not isinstance(card, dict) or not all(isinstance(card.get(key, ...), kind) for key, kind in KINDS.items()):
        raise UserError(f"{path}: not the card of a selection; allowed: {', '.join(sorted(KINDS))}")
    return card


def read_selection(folder: Path, run_seed: int, base: Base) -> Selected:
    """Read the seed of a selection that a run's seed works on.

    Args:
        folder: the selection's folder, with one seed-N folder per seed.
        run_seed: the run's seed; it works on the selection's seed number `run_seed` modulo how many there are, counted
            from the lowest, whatever other seeds the run has.
        base: must be the one the selection was made on.

    Raises:
        UserError: another base, or a broken file.
    """
    from knowtune.checkpoints.base import require_same_base

    seeds = sorted(folder.glob("seed-*"), key=lambda path: int(path.name.removeprefix("seed-")))
    if not seeds:
        raise UserError(f"{folder}: no selection in it; run its select stage first")
    selected = open_selection(seeds[run_seed % len(seeds)])
    if selected.mask is not None or selected.adapter is not None:
        require_same_base(selected.card["base_digest"], base, seeds[run_seed % len(seeds)])
    return selected
