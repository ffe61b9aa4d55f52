"""The gate's verdict as a file and as an exit code; its rules are tested in tests/unit/evaluation/test_gate.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from knowtune.common.files import read_json
from knowtune.evaluation.gate import NONE, SHIP, no_verdict
from stages import gate
from stages.core.champion import write_champion
from stages.runner import execute

FOLDERS = "prepared", "baseline", "filtered", "adapters", "merged", "evaluated"
RULES: Any = SimpleNamespace(promote=SimpleNamespace(model="toy"))
CARD = {
    "model": "toy", "version": "3", "run": "lora", "seed": 1, "task": {}, "weights_digest": "w",
    "metrics": {"generalisation": 0.4},
}  # fmt: skip


def judged(monkeypatch: pytest.MonkeyPatch, *words: str, params: Any = RULES) -> tuple[int, dict[str, Any]]:
    """Run the stage by its command line, where it lies; what it judges is given. Its exit code and verdict."""
    folders = [word for name in FOLDERS for word in (f"--{name}", name)]
    monkeypatch.setattr("knowtune.common.secrets.mask_output", lambda: None)  # it would stay after the test
    monkeypatch.setattr(execute, "_run", lambda stage, args: stage.run(args, params))
    code = execute.execute("stages.gate", [*folders, "--champion", "champion", "--out", "verdict.json", *words])
    return code, dict(read_json(Path("verdict.json")))


@pytest.mark.parametrize(("verdict", "code"), [(SHIP, 0), (NONE, 1)])
def test_strict_alone_fails_where_none_is_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verdict: str, code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gate, "_judge", lambda *_: {**no_verdict("of no use"), "verdict": verdict})
    assert [judged(monkeypatch)[0], judged(monkeypatch, "--strict")[0]] == [0, code]
    assert read_json(Path("verdict.json"))["verdict"] == verdict  # written either way
    assert capsys.readouterr().err == ("gate: verdict.json: ship none: of no use\n" if code else "")


def test_the_champion_goes_with_the_verdict_as_it_was_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gate, "_judge", lambda *_: no_verdict(""))
    assert judged(monkeypatch)[1]["champion"] is None
    write_champion(Path("champion"), CARD, pd.DataFrame({"id": ["a"]}))
    assert judged(monkeypatch)[1]["champion"] == {key: value for key, value in CARD.items() if key != "task"}
    assert judged(monkeypatch, params=SimpleNamespace(promote=None))[1]["champion"] is None
