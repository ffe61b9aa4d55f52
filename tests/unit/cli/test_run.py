from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cli.run import columns_that_fit, show
from knowtune.common.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
ROWS = [["name", "what", "trained", "one", "two", "parity"], ["a", "b" * 20, "123", "4 %", "5 %", "1e-5"]]


def test_columns_that_fit_name_and_metrics_first() -> None:
    assert columns_that_fit(ROWS, 1000) == [0, 1, 2, 3, 4, 5]
    assert columns_that_fit(ROWS, 1 + 7 + 6 + 6) == [0, 3, 4]
    assert columns_that_fit(ROWS, 1 + 7 + 6) == [0, 3]


def test_show_before_any_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no leaderboard yet; `make run` makes it"):
        show(tmp_path)


def test_show_prints_cautions_and_cells_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data/report").mkdir(parents=True)
    table = "| name | what | trained | one | parity |\n| --- | --- | --- | --- | --- |\n"
    row = "| majority | always '[red]a\\|b' | – | 4 % | – |\n"
    text = f"{table}{row}\n- one: a metric\n\nCaution: it says little.\n"
    (tmp_path / "data/report/leaderboard.md").write_text(text, encoding="utf-8")
    (tmp_path / "data/gate").mkdir()
    verdict = {"verdict": "ship", "summary": "ship it", "checks": [], "candidates": [{"run": "it"}]}
    (tmp_path / "data/gate/verdict.json").write_text(json.dumps(verdict))
    show(tmp_path)
    output = capsys.readouterr().out
    assert "\nship it\nreport: " in output
    assert "always '[red]a|b'" in output
    assert "\nCaution: it says little.\n" in output


@pytest.mark.parametrize(
    "code",
    [
        "import cli.__main__",
        "import knowtune.checkpoints.base",
        "import stages.tracking.description",
        "import stages.validate",
        "import pathlib, stages.core.params; stages.core.params.load_params(pathlib.Path('params.yaml'))",
    ],
)
def test_what_is_light_loads_no_torch(code: str) -> None:
    """A command or a light stage that loads it costs seconds more, each time."""
    code += "\nimport sys; sys.exit(any(name in sys.modules for name in ('peft', 'torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
