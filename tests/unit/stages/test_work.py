from __future__ import annotations

from pathlib import Path

import pytest

from knowtune.common.files import file_digest
from knowtune.methods import METHODS
from knowtune.registry import member_class
from stages.core.work import work_folder


def test_the_key_follows_params_inputs_and_member_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "rows.jsonl"
    data.write_text("1")
    lora, full = (member_class(METHODS, "method", name) for name in ("lora", "full"))
    first = work_folder("train-a", {"lr": 1}, [data], lora)
    (first / "finished").mkdir()
    assert work_folder("train-a", {"lr": 1}, [data], lora) == first
    assert (first / "finished").is_dir()
    member_class(METHODS, "method", "peft")  # another member that happens to be loaded changes nothing
    assert work_folder("train-a", {"lr": 1}, [data], lora) == first
    names = {first.name}
    names.add(work_folder("train-a", {"lr": 2}, [data], lora).name)
    assert not first.exists()  # what no version of this stage needs any more is removed
    names.add(work_folder("train-a", {"lr": 2}, [data], full).name)
    data.write_text("2")
    names.add(work_folder("train-a", {"lr": 2}, [data], full).name)
    assert len(names) == 4


def test_an_edit_to_code_that_is_not_loaded_yet_is_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Methods import PEFT's helpers only when they attach; finished seeds of older code must not be reused."""
    monkeypatch.chdir(tmp_path)
    before = work_folder("train-a", {}, [])
    real = file_digest
    monkeypatch.setattr("stages.core.work.file_digest", lambda p: "edited" if p.name == "adapters.py" else real(p))
    assert work_folder("train-a", {}, []) != before
