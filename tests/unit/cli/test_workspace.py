from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli import workspace
from cli.workspace import add_arguments, follow_git, open_workspace, params_file
from knowtune.common.errors import UserError
from stages.core.params import read_yaml, write_yaml
from tests.unit.helpers import PRESETS

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like the project, with a preset and what it needs; DVC is not started."""
    root = tmp_path / "project"
    for name in ("presets", "mine/facts", "mine/text", "mine/model", "cli", "stages", "knowtune"):
        (root / name).mkdir(parents=True)
    for name in ("dvc.yaml", ".dvcignore", "mine/text/text.jsonl"):
        (root / name).write_text("")
    params = read_yaml(PROJECT / "presets/pararel.yaml")
    params["source"] |= {"data": "DATA/facts", "text": "DATA/text/text.jsonl"}
    params["base"]["path"] = "DATA/model"
    write_yaml(root / "presets/toy.yaml", params)
    monkeypatch.chdir(root)
    monkeypatch.setattr(workspace, "_dvc", lambda folder, *arguments: (folder / ".dvc").mkdir(exist_ok=True))
    return root


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(arguments)


def test_a_preset_is_a_params_file_by_its_name(project: Path) -> None:
    assert params_file(parsed("--preset", "toy")) == Path("presets/toy.yaml")
    assert params_file(parsed("--params", "other.yaml")) == Path("other.yaml")
    assert params_file(parsed()) == Path("params.yaml")
    with pytest.raises(UserError, match=r"no preset is called 'tyo'; known: toy; did you mean 'toy'\?"):
        params_file(parsed("--preset", "tyo"))


def test_the_data_folder_is_remembered(project: Path) -> None:
    preset = Path("presets/toy.yaml")
    with pytest.raises(UserError, match="say which: DATA=folder"):
        open_workspace(preset)
    assert not (project / "workspaces").exists()
    folder = open_workspace(preset, Path("mine"))
    assert folder == project / "workspaces/toy"
    assert (folder / "cli").resolve() == project / "cli"
    assert json.loads((folder / "origin.json").read_text())["data"] == str(project / "mine")
    first = read_yaml(folder / "params.yaml")
    assert first["source"]["data"] == str(project / "mine/facts")
    open_workspace(preset)
    assert read_yaml(folder / "params.yaml") == first
    (project / "mine").rename(project / "moved")
    with pytest.raises(UserError, match="nothing is there"):
        open_workspace(preset)
    assert read_yaml(folder / "params.yaml") == first
    open_workspace(preset, project / "moved")
    assert read_yaml(folder / "params.yaml")["source"]["data"] == str(project / "moved/facts")


def test_two_files_of_one_name_do_not_share_a_workspace(project: Path) -> None:
    open_workspace(Path("presets/toy.yaml"), Path("mine"))
    (project / "toy.yaml").write_bytes((project / "presets/toy.yaml").read_bytes())
    with pytest.raises(UserError, match=r"workspaces/toy: belongs to .*presets/toy.yaml; give one of the two"):
        open_workspace(Path("toy.yaml"), Path("mine"))


@pytest.mark.parametrize("preset", PRESETS)
def test_the_project_s_presets_are_good(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from cli.checks import check_params

    monkeypatch.chdir(PROJECT)
    check_params(workspace.preset_file(preset))


ODD = [
    "it's",
    'say "a"',
    "$HOME",
    "`id`",
    "back\\slash",
    "a b",
    "ünï",
    "😀",
    "line\nbreak",
    "tab\t",
    "#1",
    "a: b",
    "why?",
]


@pytest.mark.parametrize("name", ODD)
def test_a_path_with_odd_signs_is_what_the_shell_of_a_command_gets(name: str, project: Path) -> None:
    """The command is put together and run as DVC does it: the value as it is, between double quotes."""
    (project / f"{name}.jsonl").write_text("found")
    params = read_yaml(project / "presets/toy.yaml")
    params["source"]["text"] = f"{name}.jsonl"
    write_yaml(project / "presets/odd.yaml", params)
    for _ in range(2):  # the second time the link is there
        folder = open_workspace(Path("presets/odd.yaml"), Path("mine"))
    given = read_yaml(folder / "params.yaml")["source"]["text"]
    done = subprocess.run(f'cat "{given}"', shell=True, cwd=folder, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("found", "")
    assert Path(given).suffix == ".jsonl"


def test_a_link_follows_its_path(project: Path) -> None:
    params = read_yaml(project / "presets/toy.yaml")
    for name in ("$a", "$b"):
        (project / name).mkdir()
        (project / name / "text.jsonl").write_text(name)
        params["source"]["text"] = f"{name}/text.jsonl"
        write_yaml(project / "presets/odd.yaml", params)
        folder = open_workspace(Path("presets/odd.yaml"), Path("mine"))
        assert (folder / read_yaml(folder / "params.yaml")["source"]["text"]).read_text() == name


def test_presets_of_the_project_are_those_in_git() -> None:
    """Other presets there are the user's own, and may be half done."""
    listed = subprocess.run(["git", "ls-files", "presets"], cwd=PROJECT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git repository")
    assert sorted(PRESETS) == [Path(name).stem for name in listed.stdout.split()]


def test_a_project_works_without_git_and_with_it_again(tmp_path: Path) -> None:
    def dvc() -> int:
        return subprocess.run(
            [sys.executable, "-m", "dvc", "status", "-q"], cwd=tmp_path, capture_output=True
        ).returncode

    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    analytics = false\n")
    assert dvc() == 255  # "is not a git repository"
    for _ in range(2):
        follow_git(tmp_path)
        assert dvc() == 0
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    follow_git(tmp_path)
    assert "no_scm" not in (tmp_path / ".dvc/config.local").read_text()
    assert dvc() == 0


def test_a_folder_that_cannot_be_written_is_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root, as in a container, may write anywhere
    with pytest.raises(UserError, match="this folder cannot be written, and results go into it; copy it elsewhere"):
        open_workspace(Path("presets/toy.yaml"))
    assert not (project / "workspaces").exists()
