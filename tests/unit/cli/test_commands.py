"""The commands that the README and the guide show run as they are written, in a shell where nothing is activated."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs/guide").glob("*.md"))]
PYTHON = ".venv/bin/python -m "
TOOLS = ("python ", "python3 ", "pip ", "pip3 ", "mlflow ", "prefect ", "pytest ")
ACTIVATE = ". .venv/bin/activate"


def commands(page: str) -> tuple[list[str], list[str]]:
    """Give the lines of code blocks, without comments, and what stands in backticks within the text."""
    text = (ROOT / page).read_text(encoding="utf-8")
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    blocks = [block for language, block in fenced if language in ("", "bash", "sh")]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [re.sub(r"\s+#.*", "", line) for block in blocks for line in block.splitlines()]
    return lines, [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]


def found(start: str) -> list[tuple[str, str]]:
    return sorted({(p, c.strip()) for p in PAGES for part in commands(p) for c in part if c.strip().startswith(start)})


def dry(*arguments: str) -> str:
    """Ask make what it would run, as if the environment were there."""
    done = subprocess.run(["make", "-n", "-o", ".venv/ready", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(("page", "command"), found("make "))
def test_make_has_the_target_and_takes_the_variables(page: str, command: str) -> None:
    words = shlex.split(command.partition(" < ")[0])[1:]  # a shell's redirection is no word of make's
    targets = [word for word in words if "=" not in word]
    for word in words:
        if "=" in word:
            others = [other for other in words if other != word]
            assert dry(*words) != dry(*others), f"{page}: {command}: {word} changes nothing"
    assert dry(*words) if targets else True


def test_there_are_commands() -> None:
    assert len(found("make ")) > 30
    assert len(found(PYTHON)) > 4


@pytest.mark.parametrize(("page", "command"), found(PYTHON))
def test_modules_are_there_and_know_their_options(page: str, command: str) -> None:
    module, *rest = shlex.split(command.removeprefix(PYTHON))
    spec = importlib.util.find_spec(module)
    assert spec is not None, f"{page}: {command}"
    assert spec.origin is not None
    place = Path(spec.origin)
    main = place.with_name("__main__.py") if place.name == "__init__.py" else place
    source = main.read_text(encoding="utf-8")
    options = {word.partition("=")[0] for word in rest if word.startswith("--")} - {"--help"}
    assert all(option in source for option in options), f"{page}: {command}"


@pytest.mark.parametrize("page", PAGES)
def test_tools_of_the_environment_are_called_by_their_path(page: str) -> None:
    lines, inline = commands(page)
    for command in [*lines, *inline]:
        assert not command.strip().startswith(TOOLS), f"{page}: {command}: write {PYTHON}..., or make"
    if any(line.startswith("dvc ") for line in lines):
        assert ACTIVATE in (ROOT / page).read_text(encoding="utf-8"), f"{page}: dvc needs the environment: {ACTIVATE}"


@pytest.mark.parametrize(("page", "command"), found(".venv/bin/python benchmarks/"))
def test_scripts_are_there(page: str, command: str) -> None:
    assert (ROOT / shlex.split(command)[1]).is_file(), f"{page}: {command}"
