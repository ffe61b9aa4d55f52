from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree

from stages.tracking.digests import digest, file_md5, hidden_by, joint_md5

FILES = {"b.txt": b"two\r\n", "a/z.txt": "zwölf".encode(), "a b.txt": b"", "ä.txt": b"1", "__pycache__/x.pyc": b"no"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        file = tmp_path / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (tmp_path / ".dvcignore").write_text("__pycache__\ndata/b.txt\n# a comment\n*.log\n!keep.log\n")
    return tmp_path


def reference(names: list[str]) -> str:
    """DVC's own digest of a folder with these files."""
    tree = Tree()
    for name in names:
        tree.add(tuple(name.split("/")), None, HashInfo("md5", hashlib.md5(FILES[name]).hexdigest()))
    tree.digest()
    assert tree.oid
    return str(tree.oid)


def test_a_file_is_its_bytes(folder: Path) -> None:
    assert file_md5(folder / "data/b.txt") == hashlib.md5(b"two\r\n").hexdigest()
    assert digest(folder / "data/b.txt", "data/b.txt", hidden_by(folder))["size"] == 5


def test_a_folder_is_dvcs_listing_of_what_is_not_ignored(folder: Path) -> None:
    found = digest(folder / "data", "data", hidden_by(folder))
    assert found == {"md5": reference(["a/z.txt", "a b.txt", "ä.txt"]), "size": 7, "nfiles": 3}


def test_links_are_judged_by_the_path_dvc_knows(folder: Path, tmp_path: Path) -> None:
    moved = (folder / "data").rename(tmp_path / "elsewhere")
    assert digest(moved, "data", hidden_by(folder))["nfiles"] == 3
    assert digest(moved, "other", hidden_by(folder))["nfiles"] == 4


@pytest.mark.parametrize(
    ("path", "is_folder", "hidden"),
    [
        ("x/.git", True, True),
        ("x/run.log", False, True),
        ("x/keep.log", False, False),
        ("data/b.txt", False, True),
        ("/outside/run.log", False, False),
        ("../outside/run.log", False, False),
    ],
)
def test_hidden(folder: Path, path: str, is_folder: bool, hidden: bool) -> None:
    assert hidden_by(folder)(path, is_folder) is hidden


def test_no_dvcignore_hides_nothing_but_gits_and_dvcs_own(tmp_path: Path) -> None:
    hidden = hidden_by(tmp_path)
    assert (hidden(".dvc", True), hidden("__pycache__", True)) == (True, False)


def test_joint_digest_has_no_order_and_sees_every_byte() -> None:
    assert joint_md5({"a": "1", "b": "2"}) == joint_md5({"b": "2", "a": "1"})
    assert joint_md5({"a": "1", "b": "2"}) != joint_md5({"a": "2", "b": "1"})
