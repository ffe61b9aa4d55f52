"""Secrets of the environment and in addresses, planted before a real run: none stands in anything that is written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.flows.conftest import Runner, run_base
from tests.pipeline.conftest import Project, once

PASSWORD, REMOTE = "s3cret-of-the-store", "t0ken-of-the-remote"
PLANTED = {
    "HF_TOKEN": "hf_" + "PlantedByATest0123456789",
    "AWS_ACCESS_KEY_ID": "AKIA" + "PLANTEDBYATEST01",
    "AWS_SECRET_ACCESS_KEY": "planted/by/a/test+of+secrets",
    "MY_SERVICE_TOKEN": "another-planted-word",
}
FAILS = """
import os, sys
print("the hub says no to", os.environ["HF_TOKEN"], "and https://ann:pass-in-an-address@example.org/x", file=sys.stderr)
sys.exit(1)
"""


def test_no_secret_reaches_anything_that_a_run_writes(
    flows: Runner, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path / "project")
    shutil.copytree(once(tmp_path_factory, "begun", run_base), project.folder, symlinks=True)
    project.change(lambda params: params["tracking"].update(store="mlflow"))
    own = project.folder / ".dvc/config.local"  # where DVC keeps what is not to be shared
    own.write_text(f"[core]\n    remote = r\n['remote \"r\"']\n    url = https://ann:{REMOTE}@example.org/store\n")
    (project.folder / "fails.py").write_text(FAILS)
    text = (project.folder / "dvc.yaml").read_text()
    (project.folder / "dvc.yaml").write_text(text.replace("stages:\n", "stages:\n  fails: {cmd: python fails.py}\n", 1))
    uri = f"http://ann:{PASSWORD}@{flows.mlflow}"
    for name, value in {**PLANTED, "MLFLOW_TRACKING_URI": uri}.items():
        monkeypatch.setitem(flows.environment, name, value)
    flow = flows(project, "prepare", "fails")
    assert flow.code == 1
    assert "tracked: experiment knowtune" in flow.output, flow.output
    assert "the hub says no to ***" in flow.output
    assert f"http://***@{flows.mlflow}" in flow.output
    secrets = [PASSWORD, REMOTE, "pass-in-an-address", *PLANTED.values()]
    assert not [line for line in flow.output.splitlines() for secret in secrets if secret in line]
    assert "the hub says no" in " ".join(task["state"]["message"] or "" for task in flow.tasks().values())
    written = [path for top in (project.folder, flows.home) for path in top.rglob("*") if path.is_file()]
    assert any("mlflow.db" in path.name for path in written)
    assert any(path.is_relative_to(flows.home / "mlartifacts") for path in written)
    written = [path for path in written if path not in (own, project.folder / "fails.py")]
    found = [(path, secret) for path in written for secret in secrets if secret in content(path)]
    assert not found


def content(path: Path) -> str:
    """Any file as text: what a secret's letters would stand in."""
    return path.read_bytes().decode("latin-1") if path.exists() else ""
