from __future__ import annotations

from pathlib import Path

import pytest

from stages.core.work import work_folder


def test_the_key_follows_params_inputs_and_code_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "rows.jsonl"
    data.write_text("1")
    code = {"stages/train.py": "a"}
    first = work_folder("train-a", {"lr": 1}, [data], code)
    (first / "finished").mkdir()
    assert work_folder("train-a", {"lr": 1}, [data], dict(code)) == first
    assert (first / "finished").is_dir()
    names = {first.name}
    names.add(work_folder("train-a", {"lr": 2}, [data], code).name)
    assert not first.exists()  # what no version of this stage needs any more is removed
    names.add(work_folder("train-a", {"lr": 2}, [data], {"stages/train.py": "b"}).name)
    data.write_text("2")
    names.add(work_folder("train-a", {"lr": 2}, [data], {"stages/train.py": "b"}).name)
    assert len(names) == 4
