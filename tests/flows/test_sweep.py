"""A sweep for real: killed after its first point, and gone on with by two workers; told in one table and one run."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from cli.sweeping.dry import dry
from flows.sweep import FOLDER
from tests.flows.conftest import Runner, run_base
from tests.pipeline.conftest import Project, once

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the libraries that MLflow imports
    from mlflow import MlflowClient

RATES = "0.01", "0.02", "0.03"
GRID = f"""
grid:
  runs.short.training.learning_rate: [{", ".join(RATES)}]
objective: short.reliability
"""


def fewer(params: dict[str, Any]) -> None:
    """One run, judged by little."""
    params["runs"] = {"short": {**params["runs"]["short"], "training": {"epochs": 1}}}
    params["evaluate"] |= {"retention": {}, "metrics": ["reliability", "generalisation", "forgotten"]}
    params["tracking"]["store"] = "mlflow"


@pytest.fixture
def project(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path / "project")
    shutil.copytree(once(tmp_path_factory, "begun", run_base), project.folder, symlinks=True)
    project.change(fewer)
    (project.folder / "rate.yaml").write_text(GRID)
    return project


def test_a_dry_run_tells_and_makes_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.folder)
    dry(Path("rate.yaml"), FOLDER, 1)
    told = capsys.readouterr().out
    assert "3 points, 1 at a time, measured by evaluate-run@short: about" in told
    assert [f"learning_rate={rate}: 4 stages of its own" in told for rate in RATES] == [True] * 3
    assert not (project.folder / "workspaces").exists()


def test_a_sweep_that_is_killed_goes_on_and_is_told_once(flows: Runner, project: Project) -> None:
    command = [sys.executable, "-m", "flows.sweep", "rate.yaml", "--workers"]
    settings: dict[str, Any] = {"cwd": project.folder, "env": flows.environment, "text": True}
    folder = project.folder / "workspaces/sweeps/rate"
    with subprocess.Popen([*command, "1"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **settings) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if ": finished, 1 points so far" in line:
                process.kill()
    again = subprocess.run([*command, "2"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **settings)
    assert again.returncode == 0, again.stdout
    assert "3 points finished; workspaces/sweeps/rate/table.csv" in again.stdout.splitlines()[-1]
    assert "tracked: experiment knowtune, run 'sweep rate'" in again.stdout
    logs = [path.read_text() for path in folder.glob("*.log")]
    assert [log.count("> python -m stages.train ") for log in logs] == [1, 1, 1]
    assert sum(log.count("> python -m stages.answers ") for log in logs) == 1  # shared, by DVC's cache
    with (folder / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["runs.short.training.learning_rate"] for row in rows} == set(RATES)
    assert all(row["state"] == "finished" and row["short.reliability"] for row in rows)
    check_runs(f"sqlite:///{project.folder / 'mlflow.db'}")


def check_runs(uri: str) -> None:
    """One parent with a child for each point, both with what they were measured at."""
    client = MlflowClient(uri)
    (experiment,) = [e.experiment_id for e in client.search_experiments() if e.name == "knowtune"]
    (parent,) = client.search_runs([experiment], "tags.kind = 'sweep'")
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert sorted(child.info.run_name or "" for child in children) == [f"learning_rate={rate}" for rate in RATES]
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    assert all("short.reliability" in child.data.metrics for child in children)
    assert {"table.csv", "picture.svg", "sweep.yaml"} <= {f.path for f in client.list_artifacts(parent.info.run_id)}
