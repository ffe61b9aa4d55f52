from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.run import default_workers
from stages.core.params import read_yaml, write_yaml
from stages.core.room import TIMES

PARAMS = Path(__file__).resolve().parents[2] / "data/params.yaml"


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give the number for a base, on a machine with so many cores and bytes."""

    def of(base: dict[str, Any], cores: int, memory: int, **compute: Any) -> int:
        params = read_yaml(PARAMS)
        params["base"] = base
        params["compute"] |= compute
        write_yaml(tmp_path / "params.yaml", params)
        monkeypatch.setattr("os.cpu_count", lambda: cores)
        monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=memory))
        monkeypatch.setattr("stages.core.room.CONTAINER", tmp_path / "memory.max")
        return default_workers(tmp_path)

    return of


def test_two_stages_at_a_time_where_each_has_cores_and_memory(workers: Any, tmp_path: Path) -> None:
    embedded, folder = read_yaml(PARAMS)["base"], {"model": "folder", "path": "my-model"}
    assert [workers(embedded, cores, 1) for cores in (1, 2, 16)] == [1, 2, 2]
    assert workers(folder, 16, 10**12) == 1  # not here yet: nobody knows how large it is
    (tmp_path / "my-model/deep").mkdir(parents=True)
    (tmp_path / "my-model/model-1.safetensors").write_bytes(bytes(1000))
    (tmp_path / "my-model/deep/pytorch_model.bin").write_bytes(bytes(500))
    (tmp_path / "my-model/tokenizer.json").write_bytes(bytes(10**6))
    assert [workers(folder, 16, memory * TIMES * 1500) for memory in (1, 2, 9)] == [1, 2, 2]
    (tmp_path / "my-model/gone.safetensors").symlink_to("nowhere")  # of a cache that has lost it
    for limit, expected in (("max", 2), ("nonsense", 2), (str(TIMES * 3000), 2), (str(TIMES * 2999), 1)):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        assert workers(folder, 16, 10**12) == expected
    assert workers(folder, 16, 10**12, device="cuda", dtype="auto") == 1
