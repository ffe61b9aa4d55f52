"""Whatever bytes stand in a file, of a person's data or of a stage's, they are read or refused in our words."""

from __future__ import annotations

import copy
import gzip
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.common.files import read_card, read_json, read_parts, read_rows, write_rows
from knowtune.data.column_mapping import reader_for
from knowtune.data.sources import read_files
from knowtune.methods.peft_adapters import load_adapter
from knowtune.models.masks import read_mask, require_fits
from knowtune.registry import member_class
from knowtune.selectors.artefact import open_selection, write_choice
from knowtune.selectors.base import Choice
from knowtune.tasks import TASKS

STEADY: dict[str, Any] = {
    "derandomize": True, "deadline": None, "database": None, "suppress_health_check": list(HealthCheck)
}  # fmt: skip
DESCRIBED = {"id": None, "fact": None, "relation": None, "subject": None, "template": None}
MAPPINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "prompts": ({"kind": "knowledge"}, {**DESCRIBED, "prompt": "q", "target": "a"}),
    "templates": ({"kind": "knowledge"}, {**DESCRIBED, "id": "i", "prompt": "Q: {q}\nA:", "target": "{a}."}),
    "labels": (
        {"kind": "classification", "labels": ["x", "y"]},
        {"id": None, "text": "q", "text_pair": None, "label": "a"},
    ),
    "scores": ({"kind": "regression"}, {"id": "i", "text": "q", "text_pair": "a", "label": "i"}),
}
ROWS = [{"i": i, "q": f"question {i}", "a": "xy"[i % 2]} for i in range(6)]
CELLS = [
    None, True, 0, 1.5, 10**400, float("nan"), "", " ", "\x00", "\ud800", "<s>", "x" * 9,
    [], ["x"], [["x"]], {}, {"a": []},
]  # fmt: skip
PIECES = [
    *(bytes([sign]) for sign in b'",\n\r\x00\xff{}[];\t\'\\qa'), b"\xef\xbb\xbf", b"\\ud800", b"NaN", b"1e999", b"null",
    b'"q"', b"\xe2\x80\xa8", b"[" * 3000, b"9" * 5000, b'{"q": 1, "q": 2}',
]  # fmt: skip


def good(ending: str) -> bytes:
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    table = pd.DataFrame(ROWS)
    if ending == ".parquet":
        out = io.BytesIO()
        table.to_parquet(out)
        return out.getvalue()
    made = {
        ".jsonl": lines,
        ".json": json.dumps(ROWS, indent=1).encode(),
        ".csv": table.to_csv(index=False).encode(),
        ".tsv": table.to_csv(index=False, sep="\t").encode(),
        ".jsonl.gz": gzip.compress(lines, mtime=0),
        ".csv.gz": gzip.compress(table.to_csv(index=False).encode(), mtime=0),
    }
    return made[ending]


def spoiled(content: bytes, cuts: list[tuple[int, int, bytes]]) -> bytes:
    """Put pieces in the place of some bytes."""
    for start, length, piece in cuts:
        at = start % (len(content) + 1)
        content = content[:at] + piece + content[at + length :]
    return content


places = st.tuples(st.integers(0, 10**6), st.integers(0, 40), st.sampled_from(PIECES) | st.binary(max_size=6))
changes = st.lists(places, min_size=1, max_size=4)


def read(folder: Path, name: str, mapping: str) -> Any:
    """Read a file as `prepare` does; a `UserError` is the one exception that may come."""
    options, columns = MAPPINGS[mapping]
    task = member_class(TASKS, "task", options["kind"])(**{k: v for k, v in options.items() if k != "kind"})
    text = folder / "text.jsonl"
    text.write_text('{"text": "a text"}\n')
    files = {"train": name, "validation": None, "test": None, "known": None}
    try:
        return read_files(folder, files, reader_for(columns, task, None), columns, text, "text")
    except UserError as error:
        assert str(folder) in str(error), str(error)
        assert len(str(error)) < 5000, len(str(error))
        return None


@settings(max_examples=400, **STEADY)
@given(
    ending=st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz", ".csv.gz"]),
    mapping=st.sampled_from(list(MAPPINGS)), cuts=changes,
)  # fmt: skip
def test_any_bytes_in_a_data_file(ending: str, mapping: str, cuts: list[Any], tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.getbasetemp() / "data"
    folder.mkdir(exist_ok=True)
    (folder / f"train{ending}").write_bytes(spoiled(good(ending), cuts))
    found = read(folder, f"train{ending}", mapping)
    if found is not None:
        assert len(found.train)
        written = folder / "written.jsonl"
        write_rows(written, found.train)  # every text can be written, and comes back
        assert read_rows(written)["prompt"].tolist() == found.train["prompt"].tolist()


@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("column", ["q", "a", "i"])
def test_any_cell_of_json(mapping: str, column: str, tmp_path: Path) -> None:
    for cell in CELLS:
        lines = [json.dumps({**ROWS[0], column: cell}), *map(json.dumps, ROWS)]
        (tmp_path / "train.jsonl").write_text("\n".join(lines) + "\n")
        read(tmp_path, "train.jsonl", mapping)


VALUES = [None, True, 0, -1, 2**70, 1.5, "", "x", "\x00", [], [None], [[1]], {}, {"": {}}, {"a": {"b": []}}]


def nodes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        yield (*path, key)
        yield from nodes(inner, (*path, key))


def variants(card: Any) -> Iterator[bytes]:
    """A card with each of its values replaced or left out, cut short, or garbage."""
    for path in nodes(card):
        for value in [*VALUES, ...]:
            changed = copy.deepcopy(card)
            parent = changed
            for key in path[:-1]:
                parent = parent[key]
            if value is ...:
                del parent[path[-1]]
            else:
                parent[path[-1]] = value
            yield json.dumps(changed).encode()
    text = json.dumps(card).encode()
    yield from (text[: len(text) * i // 7] for i in range(7))
    yield from (b"\xff", b"null", b"[]", b"[" * 100_000, b'"x"', b"9" * 5000, b"{}")


def attack(path: Path, use: Callable[[], object], contents: Iterator[bytes]) -> int:
    """Try a use with each content of a file; return how often it was refused."""
    refused = 0
    for content in contents:
        path.write_bytes(content)
        try:
            use()
        except UserError as error:
            assert path.name in str(error) or str(path.parent) in str(error), str(error)
            refused += 1
    return refused


@pytest.fixture
def selection(tmp_path: Path, rows: pd.DataFrame) -> Path:
    mask = {"model.layers.0.mlp.up_proj.weight": torch.tensor([1, 5, 9])}
    scores = pd.Series([float(i) for i in range(len(rows))], index=rows.index)
    choice = Choice(scores=scores, chosen=scores < 3, mask=mask, trace=[{"rows": 3}], layers=None)
    write_choice(tmp_path / "seed-0", rows, choice, base_digest="a" * 64, strategy="fish", options={"samples": 3})
    return tmp_path / "seed-0"


def test_any_card_of_a_selection(selection: Path) -> None:
    path = selection / "selection.json"
    card = read_json(path)
    assert attack(path, lambda: open_selection(selection), variants(card)) > 50


@settings(max_examples=150, **STEADY)
@given(cuts=changes)
def test_any_bytes_in_rows_and_masks(cuts: list[Any], selection: Path) -> None:
    shapes = {"model.layers.0.mlp.up_proj.weight": (4, 5)}
    for name, use in (
        ("rows.jsonl", lambda: open_selection(selection)),
        ("rows.jsonl", lambda: list(read_parts(selection / "rows.jsonl", 2))),
        ("mask.safetensors", lambda: require_fits(read_mask(selection / "mask.safetensors"), shapes, str(selection))),
    ):
        path = selection / name
        content = path.read_bytes()
        attack(path, use, iter([spoiled(content, cuts)]))
        path.write_bytes(content)


def test_any_card_of_a_base(base: Base, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(base.folder, folder)
    card = {key: value for key, value in base.card.items() if key != "notes"}
    path = folder / "base.json"
    path.write_text(json.dumps(card))
    Base.open(folder, folder, base.compute, base.task)
    assert attack(path, lambda: Base.open(folder, folder, base.compute, base.task), variants(card)) > 50


def test_any_card_of_an_adapter(base: Base, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    from knowtune.methods.peft_adapters import save_adapter

    save_adapter(get_peft_model(base.model(), LoraConfig(r=2, target_modules=["q_proj"])), tmp_path)
    path = tmp_path / "adapter_config.json"
    card = read_json(path)
    model = base.model()
    few = {
        key: card[key] for key in ("peft_type", "r", "target_modules", "lora_alpha", "bias", "task_type") if key in card
    }

    def use() -> None:
        load_adapter(copy.deepcopy(model), tmp_path)

    path.write_text(json.dumps(card))
    use()
    assert attack(path, use, variants(few)) > 20


def test_any_bytes_in_a_card(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    card = {"name": "x", "seeds": [1], "of": None}
    shape = {"name": str, "seeds": list, "of": dict | None}
    assert attack(path, lambda: read_card(path, shape, "train"), variants(card)) > 20
    assert attack(path, lambda: read_json(path), variants(card)) == 10
