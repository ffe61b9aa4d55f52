from __future__ import annotations

from pathlib import Path

from stages.validate import families, prune_folder, prune_lock

ROOT = Path(__file__).resolve().parents[3]

LOCK = """schema: '2.0'
stages:
  prepare:
    cmd: a
    outs:
    - path: x
  train@lora:
    cmd: b
    params:
      params.yaml:
        runs.lora: {}
  train@lora2:
    cmd: c
  merge@lora:
    cmd: d
"""


def test_families_come_from_dvc_yaml() -> None:
    found = {
        name: (family, [str(folder) for folder in folders]) for name, family, folders in families(ROOT / "dvc.yaml")
    }
    assert found["train"] == ("runs", ["data/adapters"])
    assert found["retention"] == ("evaluate.retention", ["data/baseline/retention"])
    assert found["evaluate-mixture"] == ("mixtures", ["data/evaluated/mixtures"])
    members = {
        "fetch",
        "retention",
        "filter",
        "select",
        "preserve",
        "train",
        "merge",
        "mix",
        "evaluate-run",
        "evaluate-mixture",
    }
    assert set(found) == members


def test_lock_loses_unnamed_members_of_that_stage_alone(tmp_path: Path) -> None:
    lock = tmp_path / "dvc.lock"
    lock.write_text(LOCK)
    prune_lock(lock, "train", {"lora", "lora2"})
    assert lock.read_text() == LOCK
    prune_lock(lock, "train", {"lora2"})
    start, end = LOCK.index("  train@lora:"), LOCK.index("  train@lora2:")
    assert lock.read_text() == LOCK[:start] + LOCK[end:]
    prune_lock(tmp_path / "none.lock", "train", set())


def test_folders_lose_unnamed_members(tmp_path: Path) -> None:
    (tmp_path / "lora").mkdir()
    (tmp_path / "old" / "seed-0").mkdir(parents=True)
    prune_folder(tmp_path, {"lora"})
    assert [path.name for path in tmp_path.iterdir()] == ["lora"]
    prune_folder(tmp_path / "missing", set())
