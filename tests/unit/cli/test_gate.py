"""`cli gate` and `make gate`: a verdict that ships no model is an error, whatever is printed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cli import __main__ as commands
from knowtune.common.files import write_json
from knowtune.evaluation.gate import SHIP, no_verdict
from stages.core.pipeline import project_out

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_the_exit_code_is_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["cli", "gate", *words])
    monkeypatch.setattr(commands, "open_workspace", lambda *_, **__: tmp_path)
    assert commands.main() == 1
    assert capsys.readouterr().err.endswith("verdict.json: no verdict yet; `make run` makes it\n")
    path = tmp_path / project_out("gate")
    path.parent.mkdir(parents=True)
    none = no_verdict("of no use")
    for verdict, code in ((none, 1), ({**none, "verdict": SHIP}, 0)):
        write_json(path, verdict)
        assert commands.main() == code
        assert "ship none: of no use" in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(("command", "code"), [("true", 0), ("false", 2)])  # make's own code of a command that fails
def test_make_passes_it_on(command: str, code: int) -> None:
    done = subprocess.run(["make", "-s", "-o", ".venv/ready", "gate", f"CLI={command}"], cwd=ROOT, capture_output=True)
    assert done.returncode == code
