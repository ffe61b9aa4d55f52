"""The champion as the gate compares with it: a small folder beside dvc.lock that promotion writes and git keeps.

    champion/card.json      model, version, run, seed, task, digests and metrics; {} where there is none
    champion/results.jsonl  of each example that was to be learned: id, fact, kind, and by seed the values of its run

A stage never asks the registry, which changes under it: what it compares with is a file, and so a recorded input.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.common.errors import UserError
from knowtune.common.files import file_digest, read_card, read_rows, whole, write_json, write_rows

if TYPE_CHECKING:
    import pandas as pd

FOLDER = Path("champion")
CARD, RESULTS = "card.json", "results.jsonl"
SHAPE = {"version": str, "run": str, "seed": int, "task": dict, "weights_digest": str, "results": str}


def ensure_champion(folder: Path) -> None:
    """Write that there is no champion, where nothing says so yet."""
    if not (folder / CARD).is_file():
        write_json(folder / CARD, {})


def read_champion(folder: Path, model: str) -> dict[str, Any] | None:
    """Read the champion's card; None where there is no champion of this model.

    Args:
        folder: the champion's.
        model: name in the registry: that of another model is no champion here.

    Raises:
        UserError: the folder is damaged.
    """
    if not (folder / CARD).is_file():
        return None
    card: dict[str, Any] = {}
    try:
        card = read_card(folder / CARD, {})
        if not card or card.get("model") != model:
            return None
        card = read_card(folder / CARD, SHAPE)
        whole_results = file_digest(folder / RESULTS) == card["results"]
    except (UserError, OSError):
        whole_results = False
    if not whole_results:
        again = f"`python -m flows.promote --to {card.get('version', 'VERSION')}` writes it again"
        raise UserError(f"{folder}: damaged; {again}")
    return card


def read_results(folder: Path) -> pd.DataFrame:
    """Read the champion's results, a row an example and seed: id, fact, kind, seed, and correct or loss."""
    rows = read_rows(folder / RESULTS)
    long = rows.explode(["seeds", "values"], ignore_index=True).rename(columns={"seeds": "seed"})
    name = "correct" if rows["binary"].all() else "loss"
    return long.rename(columns={"values": name}).drop(columns="binary").astype({"seed": int})


def write_champion(folder: Path, card: Mapping[str, Any], results: pd.DataFrame) -> None:
    """Write the champion: its results first, then the card that vouches for them."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / RESULTS, results)
    write_json(folder / CARD, {**card, "results": file_digest(folder / RESULTS)})


def install_champion(source: Path, folder: Path, model: str, version: str) -> None:
    """Put what a version's record says of it in the place of the champion that is there; the card comes last.

    Args:
        source: folder of the record, as `write_champion` left it.
        folder: the champion's.
        model: name in the registry.
        version: its number there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with whole(folder / RESULTS) as part:
        shutil.copyfile(source / RESULTS, part)
    write_json(folder / CARD, {**read_card(source / CARD, {}), "model": model, "version": version})


def compact(examples: pd.DataFrame, *, numeric: bool) -> pd.DataFrame:
    """Make champion's results of what an evaluation wrote: a row an example, its seeds' values in lists.

    Args:
        examples: id, fact, kind, correct, loss, seed.
        numeric: keep losses; else whether examples are right.
    """
    value = examples["loss"].astype(float) if numeric else examples["correct"].astype(int)
    table = examples[["id", "fact", "kind", "seed"]].assign(values=value, seeds=examples["seed"])
    grouped = table[table["kind"] != "locality"].groupby(["id", "fact", "kind"], sort=False)
    lists = grouped[["seeds", "values"]].agg(list).reset_index()
    return lists.assign(binary=not numeric)
