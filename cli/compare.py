"""Compare two models, example by example: what each part of the evaluation lost and gained, and whether by chance."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.common.errors import UserError, unknown

if TYPE_CHECKING:
    import argparse

    import pandas as pd

    from knowtune.evaluation.paired import Comparison
    from stages.core.schema import Params

BASE, TEXTS, SETS, LOSS = "base", "texts", "retention", "loss"
KNOWN = {"locality": "known"}  # what a kind of examples is called where its metric has another name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("a", help="a run, a mixture, or base")
    parser.add_argument("b", help="another one")
    parser.add_argument("--set", action="append", default=[], metavar="NAME", help="only this part or retention set")
    parser.add_argument("--limit", type=int, default=10, help="flipped examples shown of each part; default: 10")
    parser.add_argument("--json", action="store_true", help="print JSON, with every flipped example")


@dataclass(frozen=True)
class Part:
    """A part of the evaluation.

    Args:
        name: as it is shown.
        a: results of the first model.
        b: of the second.
        prompts: id to what is asked, and to the right answer.
        noise: how much the base differs from itself at another batch size.
    """

    name: str
    a: pd.DataFrame
    b: pd.DataFrame
    prompts: pd.DataFrame | None
    noise: float

    @property
    def binary(self) -> bool:
        """Whether examples are right or wrong."""
        return "correct" in self.a


def compare_models(folder: Path, a: str, b: str, wanted: Sequence[str], limit: int, *, as_json: bool) -> int:
    """Print the comparison.

    Args:
        folder: the project or a workspace.
        a: a run, a mixture, or base.
        b: another one.
        wanted: parts and sets by name; all where there is none.
        limit: flipped examples shown of each part.
        as_json: print JSON, with every flipped example.

    Raises:
        UserError: a name that is not known, a model that was not evaluated yet, or on other examples.
    """
    from knowtune.evaluation.paired import as_results, compare, holm
    from stages.core.params import PARAMS, load_params

    os.chdir(folder)
    params = load_params(PARAMS)
    folders = [evaluated_folder(params, name) for name in (a, b)]
    if a == b:
        raise UserError(f"A and B: got {a!r} twice; give two models")
    parts = {part.name: part for part in _parts(params, (a, b), folders)}
    for name in wanted:
        if name not in parts:
            raise unknown("part or set", name, parts)
    chosen = {name: part for name, part in parts.items() if not wanted or name in wanted}
    results = {
        name: compare(
            name, *(as_results(m, t, binary=part.binary) for m, t in ((a, part.a), (b, part.b))), binary=part.binary
        )
        for name, part in chosen.items()
    }
    corrected = holm({name: found.p for name, found in results.items() if found.p is not None})
    seeds = [_seeds(next(iter(chosen.values())).a), _seeds(next(iter(chosen.values())).b)]
    found = {name: _as_dict(chosen[name], result, corrected.get(name)) for name, result in results.items()}
    if as_json:
        print(json.dumps({"a": a, "b": b, "seeds": seeds, "parts": found}, indent=2, ensure_ascii=False))
    else:
        _show((a, b), seeds, found, limit)
    return 0


def evaluated_folder(params: Params, name: str) -> Path:
    """Find the folder of a model's results.

    Raises:
        UserError: there is no such model, or it was not evaluated yet.
    """
    from stages.core.pipeline import project_out

    folders = {BASE: Path(project_out("baseline")).parent}
    folders |= {run: Path(project_out("evaluate-run", run)) for run in params.runs}
    folders |= {mixture: Path(project_out("evaluate-mixture", mixture)) for mixture in params.mixtures}
    if name not in folders:
        raise unknown("run or mixture", name, folders)
    if not (folders[name] / "metrics.json").is_file():
        raise UserError(f"{folders[name]}: {name} was not evaluated yet; `make run` does it")
    return folders[name]


def _parts(params: Params, names: tuple[str, str], folders: list[Path]) -> Iterator[Part]:
    """Read every part of the evaluation: kinds of examples, general texts, retention sets."""
    from knowtune.common.files import read_json, read_rows
    from stages.core.models import task_of
    from stages.core.pipeline import project_out

    test = read_rows(Path(project_out("prepare")).parent / "test.jsonl")
    task = task_of(params)
    examples = [read_rows(folder / "examples.jsonl") for folder in folders]
    notes = Path(project_out("baseline")).parent / "notes.json"
    noise = read_json(notes).get("noise")
    if noise is None:
        raise UserError(f"{notes}: says nothing of noise, as an older version left it; `make run` measures it")
    for kind in examples[0]["kind"].drop_duplicates():
        a, b = (table[table["kind"] == kind] for table in examples)
        if task.numeric:  # being right to the last digit says nothing
            a, b = (table.drop(columns="correct") for table in (a, b))
        learned = LOSS if task.numeric else task.learned
        yield Part(KNOWN.get(kind, kind if task.writes else learned), a, b, test, noise[kind])
    a, b = (read_rows(folder / "texts.jsonl", ["id", "num_tokens"]) for folder in folders)
    if len(a) and "loss" in a:
        yield Part(TEXTS, a, b, None, noise[TEXTS])
    for name in params.evaluate.retention:
        at = Path(project_out(SETS, name))
        a, b = (_read_set(name, *pair, at) for pair in zip(names, folders, strict=True))
        rows = read_rows(at / "rows.jsonl")
        yield Part(name, a, b, rows if "prompt" in rows else None, read_json(at / "metrics.json")["noise"])


def _read_set(name: str, model: str, folder: Path, of_base: Path) -> pd.DataFrame:
    """Read a model's results on a retention set.

    Raises:
        UserError: it was not measured on it yet.
    """
    from knowtune.common.files import read_rows

    file = of_base / "examples.jsonl" if model == BASE else folder / SETS / f"{name}.jsonl"
    if not file.is_file():
        raise UserError(f"evaluate.retention.{name}: {model} was not measured on it yet; `make run` does it")
    return read_rows(file)


def _seeds(table: pd.DataFrame) -> list[int]:
    """List the seeds of results; the base has none."""
    return sorted(table["seed"].unique().tolist()) if "seed" in table else []


def _as_dict(part: Part, result: Comparison, corrected: float | None) -> dict[str, Any]:
    """Give a comparison as plain values."""
    flips = result.flips.to_dict("records")
    if part.prompts is not None and flips:
        asked = part.prompts.set_index("id")[["prompt", "target"]]
        flips = [{**flip, **asked.loc[flip["id"]].to_dict()} for flip in flips]
    tested = {"lost": result.lost, "gained": result.gained, "p": result.p, "p_holm": corrected, "flips": flips}
    return {
        "unit": "share" if part.binary else LOSS if part.name == LOSS else "nats per token",
        "examples": result.num_examples,
        "facts": result.num_facts,
        "a": result.a,
        "b": result.b,
        "difference": result.difference,
        "interval": [result.low, result.high],
        "noise": part.noise,
        **(tested if part.binary else {}),
    }


def _show(names: tuple[str, str], seeds: list[list[int]], found: dict[str, dict[str, Any]], limit: int) -> None:
    """Print a table of the parts, then the flipped examples of each."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    a, b = names
    table = Table(title=f"{b} against {a}, on the same examples", title_justify="left")
    for column in ("part", "facts", a, b, "difference", "95 % interval", "noise", "lost", "gained", "p", "p (Holm)"):
        table.add_column(escape(column), justify="left" if column == "part" else "right", no_wrap=True)
    for name, part in found.items():
        table.add_row(escape(name), *_cells(part))
    needs = Console(width=1000).measure(table).maximum  # a narrow terminal wraps lines, and no number is cut
    Console(width=max(Console().width, needs)).print(table)
    print(
        f"seeds: {a} {_list(seeds[0])}, {b} {_list(seeds[1])}. Interval: bootstrap over facts and seeds. lost, gained: "
        f"facts, by the majority of seeds, {b} against {a}. p: McNemar's test on them, exact. Differences of shares "
        "are in points."
    )
    for name, part in found.items():
        for way in ("lost", "gained"):
            flips = [flip for flip in part.get("flips", ()) if flip["way"] == way]
            if flips and limit > 0:
                print(f"\n{name}: {way} by {b}, {min(limit, len(flips))} of {len(flips)} examples")
            for flip in flips[:limit]:
                asked = f"{flip['prompt']!r} -> {flip['target']!r}" if "prompt" in flip else ""
                shares = f"{flip['a_right']}/{len(seeds[0]) or 1} -> {flip['b_right']}/{len(seeds[1]) or 1}"
                print(f"  {flip['id']}  {shares}  {asked}".rstrip())


def _cells(part: dict[str, Any]) -> list[str]:
    """Write a part's numbers."""
    share = part["unit"] == "share"
    scale, digits = (100, 1) if share else (1, 3)
    levels = [f"{scale * part[key]:.{digits}f}{' %' if share else ''}" for key in ("a", "b")]
    low, high = (f"{scale * end:+.{digits}f}" for end in part["interval"])
    noise = f"{scale * part['noise']:.{digits}f}"
    difference = f"{scale * part['difference']:+.{digits}f}"
    tested = ["–"] * 4
    if share:
        tested = [str(part["lost"]), str(part["gained"]), *(f"{part[key]:.2g}" for key in ("p", "p_holm"))]
    return [str(part["facts"]), *levels, difference, f"{low} to {high}", noise, *tested]


def _list(seeds: list[int]) -> str:
    """Name seeds."""
    return ", ".join(map(str, seeds)) if seeds else "(one model)"
