"""Look into the files of retention sets before anything runs: do they have rows, and the columns that are named?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from knowtune.common.errors import Problem, UserError, nearest, shorten

LOOKED_AT = 1000  # records; the stage reads all


def faults_of_sets(raw: Mapping[str, Any], root: Path) -> list[Problem]:
    """List what is wrong with the files of `evaluate.retention`.

    Args:
        raw: params that are good otherwise.
        root: what relative paths are relative to. A file that is not there yet, as of the hub, is passed by.
    """
    sets = raw.get("evaluate", {}).get("retention", {})
    return [problem for name, section in sets.items() for problem in _faults(name, section, root / section["path"])]


def _faults(name: str, section: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    """List what is wrong with one file."""
    from knowtune.data.records import read_records
    from knowtune.evaluation.harness import INSTALL
    from knowtune.text.cell_paths import MissingColumnError, take

    where = f"evaluate.retention.{name}"
    if section["kind"] == "harness":
        if find_spec("lm_eval") is None:
            yield Problem(f"{where}.kind", f"'harness', and {INSTALL}", "another kind, or the extra")
        if path.is_file():
            yield Problem(f"{where}.path", f"{section['path']!r}, a file", "the folder of the task's YAML file")
        return
    if path.is_dir():
        yield Problem(f"{where}.path", f"{section['path']!r}, a folder", "a file")
    if not path.is_file():
        return
    try:
        for number, record in islice(read_records(path), LOOKED_AT):
            for key, column in _columns(section):
                try:
                    take(record, column)
                except MissingColumnError:
                    got = f"{column!r}, and line {number} of {path.name} has {shorten(', '.join(map(str, record)))}"
                    yield Problem(f"{where}.{key}", got, "a column that every row has", nearest(column, record))
                    return
                except ValueError as error:
                    yield Problem(f"{where}.{key}", f"{column!r}, and line {number}: {error}", "a readable cell")
                    return
    except UserError as error:
        yield Problem(f"{where}.path", f"{section['path']!r} ({error})", "a file with rows")


def _columns(section: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name the columns that a set reads, each with its key."""
    from knowtune.text.templates import is_template, template_columns

    if "column" in section:
        yield "column", section["column"]
    for key, given in section.get("columns", {}).items():
        for text in given if isinstance(given, list) else [given] if given is not None else []:
            for column in template_columns(text) if is_template(text) else [text]:
                yield f"columns.{key}", column
