"""Follow a page: write its code blocks into a copy of the project, as the words before each block say."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("knowtune", "stages", "cli", "flows", "tests", "docs", "data/raw", "presets")
FILES = ("pyproject.toml", "params.yaml", "dvc.yaml", "dvc.lock", "constraints.txt", "LICENSE", "Makefile")
BLOCK = re.compile(r"((?:^(?!```)[^\n]+\n)+)\n^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NEW = re.compile(r"`([\w./]+)`\n")
LINE = re.compile(r"[Tt]he\sline\sin\s(?:`(\w+)`\sof\s)?`([\w./]+)`")
ROW = re.compile(r"[Tt]he\srow\sin\s`([\w./]+)`")


def copy_project(folder: Path) -> Path:
    """Copy what the library, its tests and its documents need."""
    for name in PARTS:
        if (ROOT / name).exists():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*cache"))
    for path in [*ROOT.glob("*.md"), *(ROOT / name for name in FILES)]:
        shutil.copyfile(path, folder / path.name)
    return folder


def blocks(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield the code blocks of a page: the paragraph before it, its language, what it holds."""
    for found in BLOCK.finditer(text):
        yield found[1], found[2], found[3]


def follow(text: str, folder: Path) -> list[str]:
    """Do what a page says on a copy of the project.

    A paragraph that is a path alone makes a new file of its block. "The line in `path`" and "the line in `NAME` of
    `path`" put it into that dict, or below its like where it makes a list longer; "the row in `path`" puts it in place
    of the table's row with the same first cell. YAML goes into params.yaml. Commands are left to the caller.

    Returns:
        The new files.
    """
    new = []
    for before, language, body in blocks(text):
        if made := NEW.fullmatch(before):
            path = folder / made[1]
            assert not path.exists(), f"{made[1]} is there already"
            path.write_text(body, encoding="utf-8")
            new.append(made[1])
        elif language == "python":
            line = LINE.search(before)
            assert line, f"no word of where this belongs: {before}{body}"
            _put_into(folder / line[2], line[1] or r"[A-Z]+", body)
        elif language == "markdown":
            row = ROW.search(before)
            assert row, f"no word of where this belongs: {before}{body}"
            _put_row(folder / row[1], body)
        elif language == "yaml":
            _put_params(folder / "params.yaml", body)
    return new


def _put_into(path: Path, name: str, line: str) -> None:
    """Put a line behind the opening bracket of a dict, or below the last line that makes the same list longer."""
    if longer := re.match(r"\w+ \+= ", line):
        before, last, after = path.read_text("utf-8").rpartition(f"\n{longer[0]}")
        assert last, f"{path.name} has no {longer[0]}"
        rest, end, after = after.partition("\n")
        path.write_text(f"{before}{last}{rest}{end}{line}{after}", encoding="utf-8")
        return
    text, num = re.subn(
        rf"(?m)^({name}\b[^=\n]*= [\[{{])", lambda found: f"{found[1]}\n{line}", path.read_text("utf-8"), count=1
    )
    assert num == 1, f"{path.name} has no {name}"
    path.write_text(text, encoding="utf-8")


def _put_row(path: Path, row: str) -> None:
    """Put a row in place of the one with the same first cell."""
    first = row.split("|")[1]
    text, num = re.subn(rf"(?m)^\|{re.escape(first)}\|.*\n", lambda _: row, path.read_text("utf-8"))
    assert num == 1, f"{path.name} has no row |{first}|"
    path.write_text(text, encoding="utf-8")


def _put_params(path: Path, part: str) -> None:
    """Merge a part of a params file, section by section."""
    yaml = YAML()
    params: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"))
    for section, value in YAML(typ="safe", pure=True).load(part).items():
        params[section].update(value)
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(params, file)
