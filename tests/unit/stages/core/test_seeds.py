from __future__ import annotations

from pathlib import Path

import pytest

from stages.core.seeds import make_seeds


def write(seed: int, folder: Path, partial: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "seed").write_text(str(seed))


def refuse(seed: int, folder: Path, partial: Path) -> None:
    raise AssertionError(f"seed {seed} is made again")


def test_each_seed_has_a_folder(tmp_path: Path) -> None:
    make_seeds("train x", [3, 1], tmp_path / "work", tmp_path / "out", write)
    assert {p.name: (p / "seed").read_text() for p in (tmp_path / "out").iterdir()} == {"seed-1": "1", "seed-3": "3"}


def test_a_finished_seed_is_copied_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_seeds("train x", [3], tmp_path / "work", tmp_path / "out", write)
    make_seeds("train x", [3], tmp_path / "work", tmp_path / "later", refuse)
    assert (tmp_path / "later" / "seed-3" / "seed").read_text() == "3"
    assert capsys.readouterr().err == "train x: seed 3 is finished already\n"


def test_an_added_seed_is_made_alone(tmp_path: Path) -> None:
    made = []

    def count(seed: int, folder: Path, partial: Path) -> None:
        made.append(seed)
        write(seed, folder, partial)

    make_seeds("train x", [0], tmp_path / "work", tmp_path / "out", count)
    make_seeds("train x", [0, 1], tmp_path / "work", tmp_path / "out", count)
    assert made == [0, 1]


def test_an_interrupted_seed_goes_on_where_it_was_and_starts_its_folder_anew(tmp_path: Path) -> None:
    def die(seed: int, folder: Path, partial: Path) -> None:
        for place in (folder, partial):
            place.mkdir(parents=True)
            (place / "half").touch()
        raise KeyboardInterrupt

    def go_on(seed: int, folder: Path, partial: Path) -> None:
        assert (partial / "half").is_file()
        write(seed, folder, partial)

    with pytest.raises(KeyboardInterrupt):
        make_seeds("train x", [7], tmp_path / "work", tmp_path / "out", die)
    assert not (tmp_path / "out").exists()
    make_seeds("train x", [7], tmp_path / "work", tmp_path / "out", go_on)
    assert [p.name for p in (tmp_path / "out" / "seed-7").iterdir()] == ["seed"]
    assert [p.name for p in (tmp_path / "work" / "seed-7").iterdir()] == ["finished"]
