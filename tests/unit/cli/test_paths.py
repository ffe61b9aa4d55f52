from __future__ import annotations

from pathlib import Path

import pytest

from cli.paths import settle_paths
from knowtune.common.errors import UserError

PROJECT = Path(__file__).resolve().parents[3]


def paths(data: str, text: str, base: str) -> dict[str, dict[str, str]]:
    source = {"data": data, "text": text, "replay_text": text}
    return {"source": source, "base": {"path": base}, "semantics": {"path": "data/base"}}


def test_paths_mean_what_they_meant_at_the_root(tmp_path: Path) -> None:
    for name in ("project/a/b", "c", "m"):
        (tmp_path / name).mkdir(parents=True)
    raw = {**paths("a/b", str(tmp_path / "c"), "../m"), "threads": 2}
    settled = settle_paths(raw, tmp_path / "project", None, "my.yaml")
    assert settled == {**paths(f"{tmp_path}/project/a/b", f"{tmp_path}/c", f"{tmp_path}/m"), "threads": 2}


@pytest.mark.parametrize(
    ("given", "settled"),
    [
        ("data/base", "data/base"),
        ("data/hub/enc", "data/hub/enc"),
        ("enc", "{root}/enc"),
        ("DATA/enc", "{root}/enc"),
        ("PACKAGE/knowtune/tasks", f"{PROJECT}/knowtune/tasks"),
    ],
)
def test_the_folder_that_texts_are_compared_by_is_a_path(given: str, settled: str, tmp_path: Path) -> None:
    for name in ("a", "enc"):
        (tmp_path / name).mkdir()
    raw = {**paths("a", "a", "a"), "semantics": {"path": given}}
    found = settle_paths(raw, tmp_path, tmp_path, "my.yaml")["semantics"]["path"]
    assert found == settled.format(root=tmp_path)


def test_the_project_s_own_base_can_be_the_base_of_a_workspace(tmp_path: Path) -> None:
    for name in ("a", "data/base"):
        (tmp_path / name).mkdir(parents=True)
    settled = settle_paths(paths("a", "a", "data/base"), tmp_path, None, "my.yaml")
    assert settled["base"]["path"] == f"{tmp_path}/data/base"
    assert settled["semantics"]["path"] == "data/base"


def test_what_the_hub_brings_is_the_workspace_s_own(tmp_path: Path) -> None:
    (tmp_path / "text.jsonl").write_text("")
    raw = paths("data/hub/facts", "text.jsonl", "data/hub/model")
    settled = settle_paths(raw, tmp_path, None, "my.yaml")
    assert settled == paths("data/hub/facts", f"{tmp_path}/text.jsonl", "data/hub/model")


def test_data_stands_for_the_folder_that_is_given(tmp_path: Path) -> None:
    for name in ("facts", "text", "m"):
        (tmp_path / name).mkdir()
    raw = paths("DATA/facts", "DATA/text", "DATA/m")
    assert settle_paths(raw, Path("/"), tmp_path, "p") == paths(
        f"{tmp_path}/facts", f"{tmp_path}/text", f"{tmp_path}/m"
    )
    with pytest.raises(UserError, match=r"p: source.data: DATA/facts needs a folder; say which: DATA=folder"):
        settle_paths(paths("DATA/facts", "x", "y"), tmp_path, None, "p")


def test_package_stands_for_the_folder_of_an_installed_package() -> None:
    import knowtune

    folder = str(Path(str(knowtune.__file__)).parent)
    raw = paths("PACKAGE/knowtune/tasks", "PACKAGE/knowtune/checkpoints/base.py", "PACKAGE/knowtune/methods")
    assert settle_paths(raw, Path("/"), None, "p") == paths(
        f"{folder}/tasks", f"{folder}/checkpoints/base.py", f"{folder}/methods"
    )
    with pytest.raises(UserError, match=r"p: base.path: the Python package no_such_thing is not installed"):
        settle_paths(paths("PACKAGE/knowtune", "PACKAGE/knowtune", "PACKAGE/no_such_thing"), Path("/"), None, "p")


def test_nothing_at_a_path(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"p: source.data: here is {tmp_path}/here, and nothing is there"):
        settle_paths(paths("here", "x", "y"), tmp_path, None, "p")
