"""One experiment by DVC's own command: `dvc exp run -S` changes a number, `dvc exp show` tells of it."""

from __future__ import annotations

import csv
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.flows.conftest import run_base
from tests.pipeline.conftest import Project, once, ran

GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org")
WHO = {f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def test_an_experiment_changes_a_number_and_is_told(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    project = Project(tmp_path / "project")
    shutil.copytree(once(tmp_path_factory, "begun", run_base), project.folder, symlinks=True)
    config = project.folder / ".dvc/config"
    config.write_text(config.read_text().replace("    no_scm = True\n", ""))
    (project.folder / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    for words in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "--message", "begun")):
        subprocess.run([*GIT, *words], cwd=project.folder, check=True)
    done = project.command("dvc", "exp", "run", "--name", "fewer", "-S", "prepare.max_texts=4", "prepare", **WHO)
    assert ran(done.stdout) == ["validate", "prepare"]
    told = project.command("dvc", "exp", "show", "--csv", "--no-pager", **WHO).stdout
    rows = {row["Experiment"]: row for row in csv.DictReader(told.splitlines())}
    assert rows["fewer"]["prepare.max_texts"] == "4"
    assert {row["prepare.max_texts"] for row in rows.values()} == {"4", "5"}
    assert project.params()["prepare"]["max_texts"] == 4
