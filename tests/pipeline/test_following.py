"""The pages that say how to extend the project, followed word for word on a copy of it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.following import ROOT, blocks, copy_project, follow

PLAYBOOK = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Add a method")[2]
OF_ALL_FAMILIES = 5  # laws that hold for members of any family; most families have more
GUIDE = (ROOT / "docs/guide/extending.md").read_text(encoding="utf-8")
SPELLED = """
from knowtune.registry import member_class
from knowtune.semantics.representations import REPRESENTATIONS
vectors = member_class(REPRESENTATIONS, "representation", "letters")(size=8192).open(None, None)(["Rome", "ROME", ""])
print(tuple(vectors.shape), round(float(vectors[0] @ vectors[1] / vectors[0].norm() / vectors[1].norm()), 4))
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return copy_project(tmp_path / "project")


def run(folder: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout


def lint(folder: Path, new: list[str]) -> None:
    run(folder, "-m", "ruff", "check", "-q", *new)
    run(folder, "-m", "ruff", "format", "--check", "-q", *new)


def test_every_example_of_the_guide_joins_its_family(copy: Path) -> None:
    new = follow(GUIDE, copy)
    names = [Path(path).stem for path in new]
    assert names == ["short", "balanced", "last_layers", "largest", "weakest_relation", "letters"]
    lint(copy, new)
    assert "params.yaml: good" in run(copy, "-m", "cli", "validate")
    laws = run(
        copy, "-m", "pytest", "-vv", "tests/unit/test_laws.py", "-k", " or ".join(names), "-p", "no:cacheprovider"
    )
    passed = {name: len(re.findall(rf"\[[^\]]*\b{name}\b[^\]]*\] PASSED", laws)) for name in names}
    assert all(num >= OF_ALL_FAMILIES for num in passed.values()), passed
    assert run(copy, "-c", SPELLED).split() == ["(3,", "8192)", "1.0"]


def test_the_playbook_leads_to_a_method_that_keeps_the_laws(copy: Path) -> None:
    lint(copy, follow(PLAYBOOK, copy))
    ((_, _, commands),) = [block for block in blocks(PLAYBOOK) if block[1] == ""]
    for command in commands.splitlines():
        python, *rest = shlex.split(command)
        assert python == ".venv/bin/python"
        output = run(copy, *rest)
    assert re.search(r"\d\d passed", output)
    assert "rslora" in (copy / "docs/tour.md").read_text(encoding="utf-8")
