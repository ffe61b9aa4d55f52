from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from knowtune.common.files import write_json, write_rows
from stages.runner.execute import is_disk_full
from tests.unit.helpers import small_disk, word_pieces

BIG = torch.zeros(100_000)


def tokenizer(folder: Path) -> None:
    tokens = word_pieces()
    tokens.add_tokens([f"word{i:09}" for i in range(5000)])
    tokens.save_pretrained(folder)


def safetensors(folder: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": BIG}, folder / "a.safetensors")


def model(folder: Path) -> None:
    from transformers import BertConfig, BertModel

    BertModel(BertConfig(vocab_size=3000, hidden_size=32, num_hidden_layers=1, num_attention_heads=1)).save_pretrained(
        folder
    )


def opened(folder: Path) -> None:
    with (folder / "a.pt").open("wb") as file:
        torch.save(BIG, file)


def copied(folder: Path) -> None:
    source = folder.parent / "source"
    source.mkdir()
    (source / "big").write_bytes(b"x" * 400_000)
    shutil.copytree(source, folder / "copy")


WRITERS: dict[str, Callable[[Path], Any]] = {
    "bytes": lambda folder: (folder / "a").write_bytes(b"x" * 400_000),
    "JSON": lambda folder: write_json(folder / "a.json", "x" * 400_000),
    "rows": lambda folder: write_rows(folder / "a.jsonl", pd.DataFrame({"id": ["x" * 100] * 4000})),
    "CSV": lambda folder: pd.DataFrame({"id": ["x" * 100] * 4000}).to_csv(folder / "a.csv"),
    "torch, one tensor": lambda folder: torch.save(BIG, folder / "a.pt"),
    "torch, many tensors": lambda folder: torch.save([torch.zeros(300) for _ in range(400)], folder / "a.pt"),
    "torch, a file": opened,
    "torch, as it was": lambda folder: torch.save(BIG, folder / "a.pt", _use_new_zipfile_serialization=False),
    "safetensors": safetensors,
    "tokenizer": tokenizer,
    "model": model,
    "copy": copied,
}
# What each says, word for word, as written down on a full tmpfs: for machines where nobody may mount one.
WORDS: dict[str, list[BaseException]] = {
    **{name: [OSError(errno.ENOSPC, "No space left on device")] for name in WRITERS},
    "torch, one tensor": [
        RuntimeError("basic_ios::clear: iostream error"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
    ],
    "torch, as it was": [RuntimeError("write(): fd 3 failed with No space left on device")],
    "safetensors": [RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")],
    "tokenizer": [Exception("No space left on device (os error 28)")],
    "copy": [shutil.Error([("a", "b", "[Errno 28] No space left on device: 'a' -> 'b'")])],
}


def say(errors: list[BaseException]) -> None:
    """Raise each error while the one before is handled."""
    if len(errors) > 1:
        try:
            say(errors[:-1])
        finally:
            raise errors[-1]
    raise errors[0]


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_known_whoever_writes(name: str, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "200k") as mounted, pytest.raises(Exception) as caught:
        WRITERS[name](tmp_path / "disk") if mounted else say(WORDS[name])
    assert is_disk_full(caught.value)


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EACCES, "Permission denied"), RuntimeError("shape mismatch"), KeyError("x"), ValueError("28")],
)
def test_other_errors_are_no_full_disk(error: Exception) -> None:
    assert not is_disk_full(error)


def test_a_quota_is_a_full_disk_too() -> None:
    assert is_disk_full(OSError(errno.EDQUOT, "Disk quota exceeded"))
