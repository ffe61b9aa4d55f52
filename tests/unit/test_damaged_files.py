"""A file of an out that is cut short, spoilt or of another shape: one clear line that names it, and no traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from knowtune.checkpoints.base import Base
from knowtune.checkpoints.cards import ADAPTER_CARD, COMPOSED, MERGED
from knowtune.common.errors import UserError
from knowtune.merging.fold import load_seed, merge_seed, open_merged
from knowtune.merging.mix import mix
from knowtune.merging.mixtures.average import Average
from knowtune.methods.base import Method
from knowtune.methods.full import Full
from knowtune.methods.lora import Lora
from knowtune.methods.peft import Peft
from knowtune.training.outputs import RECORD
from knowtune.training.run import Job, train_seed
from tests.unit.helpers import fact_rows, recipe

CONFIG, ADAPTER, WEIGHTS = "adapter_config.json", "adapter_model.safetensors", "model.safetensors"
METHODS: dict[str, Method] = {
    "lora": Lora(rank=2, alpha=4.0, target_modules=["q_proj"]),
    "full": Full(),
    "peft": Peft(type="prompt_tuning", num_virtual_tokens=2),  # type: ignore[call-arg]
}
LARGE = {ADAPTER, WEIGHTS}


@pytest.fixture(scope="module")
def whole(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a trained seed and a merged model of each method."""
    folder, rows = tmp_path_factory.mktemp("whole"), fact_rows().head(4)
    for name, method in METHODS.items():
        seed = folder / name / "trained"
        train_seed(Job(name, name, method, recipe(), 0, rows, rows[:0], None), base, seed, folder / f"work-{name}")
        merge_seed(method, seed, base, folder / name / "merged", rows, 4)
    return folder


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def noise(path: Path) -> None:
    path.write_bytes(bytes(range(128, 256)) * 8)


FAULTS: list[Callable[[Path], None]] = [cut, emptied, noise, Path.unlink]
FILES = [
    ("lora", "trained", ADAPTER_CARD),
    ("lora", "trained", CONFIG),
    ("lora", "trained", ADAPTER),
    ("full", "trained", ADAPTER_CARD),
    ("full", "trained", WEIGHTS),
    ("lora", "merged", MERGED),
    ("lora", "merged", WEIGHTS),
    ("full", "merged", WEIGHTS),
    ("peft", "merged", COMPOSED),
    ("peft", "merged", CONFIG),
    ("peft", "merged", ADAPTER),
]


def used(name: str, stage: str, folder: Path, base: Base) -> str:
    """Use a folder, and return what a person is told."""
    with pytest.raises(UserError) as caught:
        if stage == "trained":
            load_seed(METHODS[name], folder, base)
        else:
            open_merged(folder, base)
    return str(caught.value)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize(("name", "stage", "file"), FILES)
def test_it_is_named_with_what_to_do(
    name: str, stage: str, file: str, fault: Callable[[Path], None], whole: Path, base: Base, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(whole / name / stage, folder)
    fault(folder / file)
    if (file, fault) == (COMPOSED, Path.unlink):  # then it is a plain checkpoint, without any of its files
        assert used(name, stage, folder, base).startswith(f"{folder}")
        return
    told = used(name, stage, folder, base)
    assert str(folder) in told
    assert "\n" not in told
    if fault is not Path.unlink or file not in LARGE:
        assert told.startswith(f"{folder / file}: ")
    assert "again" in told


@pytest.mark.parametrize(
    ("name", "stage", "file"), [entry for entry in FILES if entry[2] in (ADAPTER_CARD, MERGED, COMPOSED, CONFIG)]
)
@pytest.mark.parametrize("shape", [[], {}, None, 3, "text", [{"a": 1}]], ids=str)
def test_a_card_of_another_shape(
    name: str, stage: str, file: str, shape: Any, whole: Path, base: Base, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(whole / name / stage, folder)
    (folder / file).write_text(json.dumps(shape))
    told = used(name, stage, folder, base)
    assert told.startswith(f"{folder / file}: {'of another shape, see ' if shape == {} else 'no JSON object; '}")
    assert told.endswith(" again")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(entry=st.sampled_from([e for e in FILES if e[2] in (ADAPTER_CARD, COMPOSED, CONFIG, MERGED)]), data=st.data())
def test_no_value_of_a_card_ends_in_a_traceback(
    entry: tuple[str, str, str], data: st.DataObject, whole: Path, base: Base, tmp_path: Path
) -> None:
    name, stage, file = entry
    folder = tmp_path / "copy"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole / name / stage, folder)
    card = json.loads((folder / file).read_text())
    key = data.draw(st.sampled_from(sorted(card)))
    card[key] = data.draw(JSON)
    (folder / file).write_text(json.dumps(card))
    try:
        load_seed(METHODS[name], folder, base) if stage == "trained" else open_merged(folder, base)
    except UserError as error:
        assert str(folder) in str(error)


@pytest.mark.parametrize("value", ["x", -3, True, {"a": 1}])
def test_an_option_with_which_nothing_can_be_computed(value: Any, whole: Path, base: Base, tmp_path: Path) -> None:
    shutil.copytree(whole / "lora" / "trained", tmp_path / "seed")
    config = json.loads((tmp_path / "seed" / CONFIG).read_text())
    (tmp_path / "seed" / CONFIG).write_text(json.dumps({**config, "alora_invocation_tokens": value}))
    with pytest.raises(UserError, match="run the"):
        merge_seed(METHODS["lora"], tmp_path / "seed", base, tmp_path / "merged", fact_rows().tail(2), 2)


SHAPES: dict[str, Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]] = {
    "logsumexp": lambda t: {"logsumexp": t["logsumexp"][:-1]},
    "mask": lambda t: {"inputs.attention_mask": t["inputs.attention_mask"].flatten()},
    "no mask": lambda t: {"inputs.attention_mask": torch.zeros(0)},
    "fewer outputs": lambda t: {"outputs": t["outputs"][:-1]},
    "no outputs": lambda t: {"outputs": torch.zeros(0)},
    "outputs past the end": lambda t: {"outputs": t["outputs"] + 10**6},
    "outputs yes or no": lambda t: {"outputs": t["outputs"].bool()},
    "fewer places": lambda t: {"logits": t["logits"][1:], "logsumexp": t["logsumexp"][1:]},
}


@pytest.mark.parametrize("fault", SHAPES)
def test_a_record_of_another_shape(fault: str, whole: Path, base: Base, tmp_path: Path) -> None:
    shutil.copytree(whole / "lora" / "trained", tmp_path / "seed")
    tensors = load_file(tmp_path / "seed" / RECORD)
    save_file({**tensors, **SHAPES[fault](tensors)}, tmp_path / "seed" / RECORD)
    with pytest.raises(UserError, match=r"outputs\.safetensors.*run the train stage again"):
        merge_seed(METHODS["lora"], tmp_path / "seed", base, tmp_path / "merged", fact_rows().tail(2), 2)


def test_mixtures_name_it_too(whole: Path, base: Base, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "seed-0"
    shutil.copytree(whole / "full" / "merged", folder)
    cut(folder / WEIGHTS)
    with pytest.raises(UserError, match=rf"^{folder / WEIGHTS}: damaged \("):
        mix(Average(), [folder], [1.0], base, tmp_path / "mixed", 0)
