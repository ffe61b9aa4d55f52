"""Bytes by digest, on a cache that is laid out as DVC does it (tests/pipeline/test_lineage.py has DVC's own)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from stages.lineage.objects import OBJECTS, Objects, cache_of
from stages.tracking.digests import digest, file_md5, hidden_by


def store(folder: Path, out: str) -> dict[str, str]:
    """Put an out into the cache and return its digest."""
    path, places = folder / out, folder / ".dvc/cache" / OBJECTS
    entry = digest(path, out, hidden_by(folder))
    files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
    listing = [{"md5": file_md5(f), "relpath": str(f.relative_to(path))} for f in files] if path.is_dir() else []
    for file in files:
        target = places / file_md5(file)[:2] / file_md5(file)[2:]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    if listing:
        target = places / entry["md5"][:2] / entry["md5"][2:]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(listing, sort_keys=True))
    return entry


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    (tmp_path / "out/seed-0").mkdir(parents=True)
    (tmp_path / "out/seed-0/rows.jsonl").write_text("rows")
    (tmp_path / "out/card.json").write_text("{}")
    (tmp_path / "table.jsonl").write_text("table")
    return Objects(tmp_path, {name: store(tmp_path, name) for name in ("out", "table.jsonl")})


def cached(objects: Objects, text: str) -> Path:
    (path,) = [p for p in objects.cache.rglob("*") if p.is_file() and p.read_text() == text]
    return path


def test_what_is_as_recorded_is_read_where_it_lies(objects: Objects) -> None:
    assert objects.find("out/seed-0/rows.jsonl") == objects.folder / "out/seed-0/rows.jsonl"
    assert objects.find("table.jsonl") == objects.folder / "table.jsonl"
    assert objects.find("out/none") is objects.find("elsewhere") is None
    assert [objects.faults(out) for out in objects.outs] == [[], []]
    assert not objects.gone


def test_what_was_changed_is_named_and_read_from_the_cache(objects: Objects) -> None:
    (objects.folder / "out/seed-0/rows.jsonl").write_text("ROWS")
    (objects.folder / "out/new").touch()
    (objects.folder / "table.jsonl").write_text("other")
    assert objects.find("out/seed-0/rows.jsonl").read_text() == "rows"  # type: ignore[union-attr]
    assert objects.faults("out") == [
        "out: changed since it was recorded: seed-0/rows.jsonl",
        "out: not recorded: new",
    ]
    (fault,) = objects.faults("table.jsonl")
    assert fault.startswith("table.jsonl: changed (") and "now" in fault
    shutil.rmtree(objects.folder / "out")
    assert objects.faults("out") == ["out: not there, but DVC keeps it: `dvc checkout out` brings it back"]


def test_what_is_gone_from_the_cache_is_named(objects: Objects) -> None:
    cached(objects, "rows").unlink()
    assert objects.faults("out") == [
        "out: as recorded, but its copy in DVC's cache is gone; `dvc commit -f out` puts it back"
    ]
    (objects.folder / "out/seed-0/rows.jsonl").write_text("ROWS")
    assert objects.find("out/seed-0/rows.jsonl") is None
    assert "has changed since it was recorded, and DVC's cache no longer has" in objects.gone["out/seed-0/rows.jsonl"]


def test_a_damaged_object_is_not_taken_for_what_was_recorded(objects: Objects) -> None:
    cached(objects, "table").write_text("damaged")
    (objects.folder / "table.jsonl").unlink()
    assert objects.find("table.jsonl") is None


def test_without_its_listing_a_folder_counts_as_a_whole(objects: Objects) -> None:
    md5 = objects.outs["out"]["md5"]
    (objects.cache / OBJECTS / md5[:2] / md5[2:]).unlink()
    assert objects.find("out/card.json") == objects.folder / "out/card.json"
    (objects.folder / "out/card.json").write_text("[]")
    assert objects.find("out/seed-0/rows.jsonl") is None
    assert "DVC's cache does not know any more" in objects.gone["out/seed-0/rows.jsonl"]


def test_digests_are_remembered_until_a_file_changes(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    objects.faults("out")
    objects.remember()
    again = Objects(objects.folder, objects.outs)
    digested: list[Path] = []

    def counted(path: Path) -> str:
        digested.append(path)
        return file_md5(path)

    monkeypatch.setattr("stages.lineage.objects.file_md5", counted)
    (objects.folder / "out/card.json").write_text("[]")
    assert again.faults("out") == ["out: changed since it was recorded: card.json"]
    assert digested == [objects.folder / "out/card.json"]


def test_the_cache_that_dvc_is_told_of(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    assert cache_of(tmp_path) == tmp_path / ".dvc/cache"
    (tmp_path / ".dvc/config").write_text("[cache]\n    dir = ../shared\n")
    assert cache_of(tmp_path).resolve() == (tmp_path / "shared").resolve()
    (tmp_path / ".dvc/config.local").write_text("[cache]\n    dir = /elsewhere\n")
    assert cache_of(tmp_path) == Path("/elsewhere")


def test_what_is_neither_here_nor_in_the_cache_is_lost(objects: Objects) -> None:
    (objects.folder / "table.jsonl").unlink()
    assert [objects.lost(out) for out in objects.outs] == [[], []]  # the cache has it
    cached(objects, "rows").unlink()
    assert objects.lost("out") == []  # the folder has it
    (objects.folder / "out/card.json").write_text("[]")
    (fault,) = objects.lost("out")
    assert "is neither here nor in DVC's cache; `dvc pull` may fetch it" in fault
