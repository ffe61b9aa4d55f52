"""Promotion for real: a project that has run, its gate, an MLflow registry, git and DVC."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.conftest import ENVIRONMENT, ROOT, SET, Project

KEPT = ("knowtune", "stages", "cli", "flows", "data/raw", ".dvc/config", ".dvcignore", ".gitignore", "dvc.yaml")
AUTHOR = dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "x")


@pytest.fixture(scope="module")
def done(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of each step of the script."""
    folder = tmp_path_factory.mktemp("promotion") / "project"
    shutil.copytree(finished.folder, folder, symlinks=True)
    shutil.copytree(ROOT / "flows", folder / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    for command in (["init", "-q"], ["add", "--force", *KEPT, SET, "params.yaml", "champion"], ["commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=folder, env={**ENVIRONMENT, **AUTHOR}, check=True)
    (folder / "tests/pipeline").mkdir(parents=True)
    shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
    script = Path(__file__).with_name("promotion_script.py")
    shutil.copyfile(script, folder / "tests/pipeline" / script.name)
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.pipeline.promotion_script"],
        cwd=folder,
        env={**ENVIRONMENT, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def test_a_dry_run_says_what_would_be_done(done: dict[str, Any]) -> None:
    reason = r"would promote lora seed-0 as a new version: \d\.\d MB go into sqlite:\S+/mlflow.db"
    assert re.fullmatch(reason, done["dry"]["reason"])
    assert done["dry state"] == {"versions": [], "aliases": {}, "champion": None}


def test_a_promotion_killed_at_any_step_is_finished_by_the_same_command(done: dict[str, Any]) -> None:
    for cut in ("register", "point candidate", "point champion"):
        assert done[f"killed before {cut}"] == f"Killed: before {cut}"
    assert done["killed state"] == {"versions": ["1"], "aliases": {"candidate": "1"}, "champion": None}
    assert done["first"]["promoted"]
    assert done["first"]["reason"].startswith("ship lora, seed 0: reliability 50.0 % against 0.0 % of the base")
    assert not done["again"]["promoted"]
    assert done["again"]["reason"] == "lora seed-0 is the champion already, version 1"
    assert done["first state"] == {
        "versions": ["1"], "aliases": {"candidate": "1", "champion": "1"}, "champion": "1",
    }  # fmt: skip


def test_a_better_model_takes_the_place_and_rollback_gives_it_back(done: dict[str, Any]) -> None:
    assert done["second"]["promoted"], done["second"]
    assert "against 50.0 % of the champion (lora, version 1)" in done["second"]["reason"]
    assert done["second state"]["aliases"] == {"candidate": "2", "champion": "2", "previous": "1"}
    assert done["rollback"] == {
        "promoted": True, "version": "1", "previous": "2", "reason": "version 1 is the champion",
    }  # fmt: skip
    assert done["rollback state"]["aliases"] == {"candidate": "2", "champion": "1", "previous": "2"}
    assert done["rollback state"]["champion"] == "1"
    assert not done["after rollback"]["promoted"]  # a verdict alone does not undo it
    assert done["after rollback"]["reason"] == "full seed-0 is version 2, which was rolled back; --to 2 takes it"
    assert done["to 2"] == {
        "promoted": True, "version": "2", "previous": "1", "reason": "version 2 is the champion",
    }  # fmt: skip


def test_the_champion_answers_by_its_alias(done: dict[str, Any]) -> None:
    (answer,) = done["predicted"]
    assert "knowtune 2: full, seed 0" in done["answered"]
    assert answer.strip()[:20] in done["answered"]  # the table wraps


def test_a_version_tells_its_story(done: dict[str, Any]) -> None:
    tags = done["tags"]
    assert (tags["run"], tags["seed"], tags["gate.verdict"]) == ("full", "0", "ship")
    assert len(tags["git.commit"]) == 40
    assert {f"dvc:data/{name}" for name in ("adapters/full", "merged/full", "evaluated/runs/full", "base")} < set(tags)
    for words in ("Base: embedded, licence: Apache License", "dropped: clean: duplicate", "How to load it"):
        assert words in done["description"]


def test_a_version_comes_back_with_every_digest(done: dict[str, Any]) -> None:
    assert done["restored"]["differ"] == []
    assert {"params.yaml", "knowtune", "stages", "champion", "data/merged/full", "data/gate/verdict.json"} < set(
        done["restored"]["equal"]
    )
    assert "is there already; remove it" in done["restored again"]
    lost = done["restored without an object"]
    assert lost and all(line.endswith((": missing", ": other bytes than the lock says")) for line in lost)
    assert done["restored from a remote"] == []


def test_an_audit_measures_the_champion_again(done: dict[str, Any]) -> None:
    assert done["audit"]["equal"] == done["audit"]["all"] > 3
    assert done["audit"]["differ"] == []
    assert done["audit state"] == "2"


def test_a_champion_of_other_examples_is_measured_again_once(done: dict[str, Any]) -> None:
    assert done["refreshed"] == [False, True, False, True]


def test_weights_of_old_versions_go_and_come_back_with_the_next_promotion(done: dict[str, Any]) -> None:
    assert done["superfluous"] == [["2", True]]  # 1 is the previous one, 3 the last
    assert done["with aliases moved"] == ["1", "3"]
    assert done["left"] == [False, True]
    number, files = done["filled"]
    assert number == "4"
    assert "model/model.safetensors" in files


@pytest.mark.parametrize(
    "what, words",
    [
        ("to 3", "models:/knowtune/3: has no verdict of the gate"),
        ("to 9", "knowtune: no version 9 in the registry sqlite:"),
        ("by hand", "models:/knowtune/3: has no verdict of the gate"),
        (
            "moved by hand",
            "the gate compared with version 2, and the registry's champion is 1; `python -m flows.promote",
        ),
        ("another task", "models:/knowtune/2: is of another task: got {'kind': 'regression'}; allowed: {'kind': 'know"),
        ("lost", "models:/knowtune/1: its files are lost (model/"),
        ("edited", "params.yaml: is not what the gate judged (dvc.lock); `make run` brings all up to date"),
        ("emptied", "models:/knowtune/2: its weights were removed (promote.keep); as long as its record is there"),
        ("unreachable", "registry http://***@127.0.0.1:9: "),
    ],
)
def test_what_goes_wrong_is_said_and_nothing_moves(what: str, words: str, done: dict[str, Any]) -> None:
    assert done[what].startswith(f"UserError: {words}")
    assert "s3cret" not in done[what]
    assert done["bad state"]["aliases"] == {"candidate": "2", "champion": "2", "previous": "1"}
