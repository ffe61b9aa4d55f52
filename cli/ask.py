"""Put one question to the pristine base and to a tuned model, of the folder or the registry, and show both answers."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from knowtune.common.errors import UserError, unknown

if TYPE_CHECKING:
    import argparse

    from knowtune.serving import Served

NAME = "knowtune"  # of a registered model, where params.yaml has no section `promote`
REGISTERED = Path(".work/registered")  # where versions of the registry are kept


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--run", metavar="NAME", help="the name of a run or mixture")
    which.add_argument("--model", metavar="VERSION", help="a registered model: champion, 3, models:/NAME@ALIAS")
    parser.add_argument("--seed", type=int, default=None, help="the model of this seed; default: the lowest")
    parser.add_argument("--file", type=Path, metavar="FILE", help="a file with the question")
    parser.add_argument("--raw", action="store_true", help="send the text as it is, not as the data's mapping makes it")
    parser.add_argument("--show", action="store_true", help="also print what the model reads")
    parser.add_argument(
        "question", nargs="?", help="e.g. 'The capital of Chile is'; from --file or standard input where it is left out"
    )


def read_question(question: str | None, file: Path | None, *, raw: bool) -> str:
    """Take a question from where it is given: the command line, a file, or standard input.

    The last line break of a file or of standard input ends its last line; it is part of the text with `raw` alone.

    Raises:
        UserError: it is given twice, the file cannot be read, or it is no UTF-8.
    """
    if question is not None and file is not None:
        raise UserError("Q and ASK: got both; allowed: one of them")
    if question is not None:
        return question
    try:
        if file is not None:
            text = file.read_bytes().decode("utf-8-sig")
        else:
            text = "" if sys.stdin.isatty() else sys.stdin.buffer.read().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"ASK: {file}: {error.strerror}; give a file with the question") from None
    except UnicodeDecodeError:
        raise UserError(f"{file or 'standard input'}: not UTF-8; save it as UTF-8") from None
    text = text.replace("\r\n", "\n")
    return text if raw else text.removesuffix("\n")


def ask_registered(folder: Path, spec: str, question: str, *, raw: bool = False, show: bool = False) -> int:
    """Print the answer of a registered model, which needs nothing of this folder's runs.

    Args:
        folder: the project or a workspace.
        spec: a version's alias, number or address.
        question: as it was typed.
        raw: send it as it is.
        show: print what is really asked, too.

    Raises:
        UserError: no such version, its files are lost, or the registry cannot be reached.
    """
    from knowtune.serving import load
    from stages.core.params import PARAMS, load_params
    from stages.tracking.fetching import fetch, find_version
    from stages.tracking.models import columns_of, compute_of

    os.chdir(folder)
    params = load_params(PARAMS)
    registry, version = find_version(spec, params.promote.model if params.promote is not None else NAME)
    found = fetch(registry, version, REGISTERED)
    tuned = load(found.model, found.base, columns=columns_of(found.record), compute=compute_of(Path()))
    title = f"{version.name} {version.number}: {version.tags.get('run', '?')}, seed {version.tags.get('seed', '?')}"
    _show(question, {title: tuned}, params.answers.max_new_tokens, raw=raw, show=show)
    return 0


def ask(folder: Path, name: str, question: str, seed: int | None, *, raw: bool = False, show: bool = False) -> int:
    """Print both answers.

    Args:
        folder: the project or a workspace.
        name: a run or mixture.
        question: as it was typed; see `knowtune.data.question` for what becomes of it.
        seed: which of its models; the first by default.
        raw: send it as it is.
        show: print what is really asked, too.

    Raises:
        UserError: no such run, it has not been run yet, or nothing was asked.
    """
    import torch

    from knowtune.serving import load
    from stages.core.models import open_base
    from stages.core.params import PARAMS, load_params
    from stages.core.pipeline import project_out

    os.chdir(folder)
    params = load_params(PARAMS)
    folders = {run: project_out("merge", run) for run in params.runs}
    folders |= {mixture: project_out("mix", mixture) for mixture in params.mixtures}
    chosen = find_model(folders, name, seed)
    base = open_base(params, Path(project_out("base")))
    columns = getattr(params.source, "columns", None)
    tuned = load(chosen, base, columns=None if columns is None else columns.model_dump())
    torch.manual_seed(0)  # a classifier's base has a new head
    pristine = replace(tuned, model=base.model())
    models = {"base": pristine, f"{name} ({chosen.name})": tuned}
    _show(question, models, params.answers.max_new_tokens, raw=raw, show=show)
    return 0


def _show(question: str, models: Mapping[str, Served], max_new_tokens: int, *, raw: bool, show: bool) -> None:
    """Print what models answer, and before it what they are really asked, where that is wanted."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    if show:
        read = {key: cell for key, cell in [*models.values()][-1].cells(question, raw=raw).items() if cell}
        print("asked:", json.dumps(read, ensure_ascii=False, indent=2))
    table = Table("model", "answer", title=escape(question), title_justify="left")
    for label, served in models.items():
        (answer,) = served.answer([question], raw=raw, max_new_tokens=max_new_tokens)
        table.add_row(escape(label), escape(answer))
    Console().print(table)


def find_model(folders: Mapping[str, str], name: str, seed: int | None) -> Path:
    """Find the folder of a run's or mixture's model.

    Args:
        folders: of the models of each run and mixture, by its name.
        name: of the run or mixture.
        seed: which of its models; None for that of the lowest seed.

    Raises:
        UserError: there is no such run, seed or model.
    """
    if name not in folders:
        raise unknown("run or mixture", name, folders)
    models = {int(path.name.removeprefix("seed-")): path for path in Path(folders[name]).glob("seed-*")}
    if not models:
        raise UserError(f"{folders[name]}: no model yet; `make run` makes it")
    wanted = min(models) if seed is None else seed
    if wanted not in models:
        raise UserError(f"seed: got {seed}; allowed: {', '.join(map(str, sorted(models)))}")
    return models[wanted]
