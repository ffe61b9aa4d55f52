from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli import plan
from cli.plan import would_run
from stages.core.params import write_yaml

DOT = """strict digraph  {
"prepare";
"base";
"train@a";
"train@b";
"report";
"prepare" -> "train@a";
"prepare" -> "train@b";
"base" -> "train@a";
"train@a" -> "report";
"train@b" -> "report";
}"""


def test_what_changed_and_what_follows_in_order() -> None:
    assert would_run(set(), DOT) == []
    assert would_run({"train@b"}, DOT) == ["train@b", "report"]
    assert would_run({"base"}, DOT) == ["base", "train@a", "report"]
    assert set(would_run({"prepare"}, DOT)) == {"prepare", "train@a", "train@b", "report"}
    assert would_run({"prepare"}, DOT)[-1] == "report"


@pytest.mark.parametrize(
    ("base", "words"),
    [("folder", "of another model (1 million parameters) and other data"), ("embedded", "change with data, runs and")],
)
def test_times_of_another_model_are_marked_and_said_to_be_rough(
    base: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_yaml(tmp_path / "params.yaml", {"base": {"model": base}})
    (tmp_path / "costs.json").write_text('{"train@a": 7, "prepare": 3}')
    (tmp_path / ".work").mkdir()
    (tmp_path / ".work/costs.jsonl").write_text(json.dumps({"stage": "prepare", "seconds": 90}) + "\n")
    monkeypatch.setattr(plan, "REFERENCE", tmp_path / "costs.json")
    monkeypatch.setattr(plan, "_stages", lambda _: ["prepare", "train@b", "odd"])
    plan.plan(tmp_path)
    shown = capsys.readouterr().out.splitlines()
    assert [line.split() for line in shown[:3]] == [
        ["prepare", "90.0", "s", "?"], ["train@b", "~7.0", "s", "?"], ["odd", "?", "?"],
    ]  # fmt: skip
    assert shown[3].startswith("3 stages, about 1.6 minutes")
    assert shown[4].startswith("~: 1 of the 3 have not run here; the times are those of the embedded default")
    assert words in shown[4]
