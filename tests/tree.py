"""The tree of docs/tour.md: each module and what it is, by its docstring; `python -m tests.tree` writes it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/tour.md"
PACKAGES = ("knowtune", "stages", "cli", "flows")
BLOCK = re.compile(r"(?<=<!-- tree -->\n).*?(?=<!-- /tree -->)", re.DOTALL)
WIDTH = 100


def tree() -> str:
    """Write the packages as Markdown: a table for each folder, a line for each module."""
    folders = sorted(path.parent for package in PACKAGES for path in (ROOT / package).rglob("__init__.py"))
    folders.sort(key=lambda folder: PACKAGES.index(folder.relative_to(ROOT).parts[0]))
    return "\n".join(_folder(folder) for folder in folders)


def _folder(folder: Path) -> str:
    """Write one folder: its own sentence, and its modules'."""
    modules = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
    name = folder.relative_to(ROOT).as_posix()
    lines = [f"### {name}/", "", *_wrapped(_sentence(folder / "__init__.py")), ""]
    if modules:
        lines += ["| module | |", "| --- | --- |"]
        lines += [f"| [{path.stem}](../{name}/{path.name}) | {_sentence(path)} |" for path in modules]
        lines.append("")
    return "\n".join(lines)


def _sentence(path: Path) -> str:
    """Give the first paragraph of a module's docstring, up to the end of its first sentence."""
    text = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]
    return re.split(r"(?<=\.)\s(?=[A-Z`])", " ".join(text.split()), maxsplit=1)[0].replace("|", r"\|")


def _wrapped(text: str) -> list[str]:
    """Break a sentence into lines of the docs' width."""
    import textwrap

    return textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    PAGE.write_text(BLOCK.sub(lambda _: tree(), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
