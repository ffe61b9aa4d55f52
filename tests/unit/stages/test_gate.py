"""The gate's verdict as a file and as an exit code; its rules are tested in tests/unit/evaluation/test_gate.py."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from knowtune.common.errors import UserError
from knowtune.common.files import read_json
from knowtune.evaluation.gate import NONE, SHIP, no_verdict
from stages import gate
from stages.core.champion import write_champion

RULES: Any = SimpleNamespace(promote=SimpleNamespace(model="toy"))
CARD = {
    "model": "toy", "version": "3", "run": "lora", "seed": 1, "task": {}, "weights_digest": "w",
    "metrics": {"generalisation": 0.4},
}  # fmt: skip


def judged(folder: Path, *, strict: bool = False, params: Any = RULES) -> dict[str, Any]:
    """Run the stage; what it judges is given."""
    args = argparse.Namespace(champion=folder / "champion", out=folder / "verdict.json", strict=strict)
    gate.run(args, params)
    return dict(read_json(args.out))


@pytest.mark.parametrize("verdict", [SHIP, NONE])
def test_strict_alone_fails_where_none_is_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdict: str
) -> None:
    monkeypatch.setattr(gate, "_judge", lambda *_: {**no_verdict("of no use"), "verdict": verdict})
    assert judged(tmp_path)["verdict"] == verdict
    if verdict == SHIP:
        assert judged(tmp_path, strict=True)["verdict"] == SHIP
        return
    with pytest.raises(UserError, match=r"verdict\.json: ship none: of no use"):
        judged(tmp_path, strict=True)
    assert read_json(tmp_path / "verdict.json")["verdict"] == NONE  # written all the same


def test_the_champion_goes_with_the_verdict_as_it_was_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "_judge", lambda *_: no_verdict(""))
    assert judged(tmp_path)["champion"] is None
    write_champion(tmp_path / "champion", CARD, pd.DataFrame({"id": ["a"]}))
    assert judged(tmp_path)["champion"] == {key: value for key, value in CARD.items() if key != "task"}
    other: Any = SimpleNamespace(promote=None)
    assert judged(tmp_path, params=other)["champion"] is None
