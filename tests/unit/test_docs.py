"""The pages that people read: links lead somewhere, the tour names every module, numbers are of the locked run."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from knowtune.filters import FILTERS
from knowtune.merging.mixtures import MIXTURES
from knowtune.methods import METHODS
from knowtune.selectors import SELECTORS
from knowtune.semantics.representations import REPRESENTATIONS
from knowtune.tasks import TASKS
from stages.core.params import read_yaml
from tests import leaderboard
from tests.tree import BLOCK, PAGE, ROOT, tree

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FAMILIES = {
    "filters": FILTERS, "selectors": SELECTORS, "methods": METHODS, "mixtures": MIXTURES, "tasks": TASKS,
    "representations": REPRESENTATIONS,
}  # fmt: skip
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Name the headings of a page as GitHub does."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for link in LINK.findall(re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            dead.append(link)
    assert not dead


def test_the_tour_names_every_module() -> None:
    found = BLOCK.search(PAGE.read_text(encoding="utf-8"))
    assert found
    assert found[0] == tree(), "python -m tests.tree writes it anew"


@pytest.mark.parametrize("name", leaderboard.COPIES)
def test_the_table_and_the_picture_are_of_the_locked_run(name: str) -> None:
    lock = read_yaml(ROOT / "dvc.lock")["stages"]["report"]["outs"]
    (locked,) = (out["md5"] for out in lock if out["path"] == name)
    assert hashlib.md5(leaderboard.COPIES[name].read_bytes()).hexdigest() == locked


def test_the_readme_shows_that_table() -> None:
    found = leaderboard.BLOCK.search(leaderboard.README.read_text(encoding="utf-8"))
    assert found
    assert found[0] == leaderboard.board(), "python -m tests.leaderboard writes it anew"


def test_the_guide_begins_with_numbers_of_that_table() -> None:
    opening = (ROOT / "docs/guide/preserve.md").read_text(encoding="utf-8").partition("![")[0]
    numbers = re.findall(r"(\d+\.\d) ± (\d+\.\d) %", " ".join(opening.split()))
    board = leaderboard.TABLE.read_text(encoding="utf-8")
    assert numbers and all(f" {mean} % ± {half} " in board for mean, half in numbers)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_table_of_the_readme_names_every_member(family: str) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (cell,) = re.findall(rf"^\| {family}: [^|]*\|([^|]*)\|", text, flags=re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", cell)) == set(FAMILIES[family])
