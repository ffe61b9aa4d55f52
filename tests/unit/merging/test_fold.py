from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.checkpoints.cards import ADAPTER_CARD, COMPOSED, MERGED
from knowtune.common.errors import UserError
from knowtune.common.files import read_json, write_json
from knowtune.merging.fold import load_seed, merge_seed, open_merged
from knowtune.merging.parity import parity, require_parity
from knowtune.methods.base import Method
from knowtune.methods.full import Full
from knowtune.methods.kasa.method import Kasa
from knowtune.methods.lora import Lora
from knowtune.methods.peft import Peft
from knowtune.models.compute import Compute
from knowtune.models.forward import forward
from knowtune.training.outputs import record_outputs
from tests.unit.helpers import TASK, encoded, equal_states, fact_rows, state, train

IDS = [[1, 5, 9, 30, 200], [7, 8]]
LORA = Lora(rank=2, alpha=4.0)
RECORDED = {"trained": 0.0, "noise": 0.0}


def adapter(base: Base, method: Method, folder: Path, name: str = "lora") -> Path:
    fitted = train(base, method, fact_rows().head(8), folder / "work", learning_rate=0.02)
    record_outputs(fitted.model, base.task, encoded(base, fact_rows().head(8)).rows, folder / "adapter")
    method.save(fitted.model, folder / "adapter")
    card = {"base_digest": base.digest, "method": name, "options": method.model_dump(), "weights_digest": "w"}
    write_json(folder / "adapter" / ADAPTER_CARD, card)
    (folder / "adapter" / "curve.csv").write_text("step,split,loss\n")
    return folder / "adapter"


def merge(method: Method, source: Path, base: Base, folder: Path) -> torch.nn.Module:
    """Merge with parity on a few rows, and read back what was written."""
    found = merge_seed(method, source, base, folder, fact_rows().tail(4), 2)
    assert found["num_rows"] == 4
    assert found["largest"] < 1e-4
    return open_merged(folder, base)


@pytest.fixture(scope="module")
def lora_adapter(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adapter(base, LORA, tmp_path_factory.mktemp("lora"))


def test_a_method_that_folds_gives_a_plain_checkpoint(base: Base, lora_adapter: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    merged = merge(LORA, lora_adapter, base, tmp_path / "m")
    assert read_json(tmp_path / "m" / MERGED) == {
        "kind": "folded", "base_digest": base.digest, "weights_digest": "w"
    }  # fmt: skip
    assert not (tmp_path / "m" / "adapter_config.json").exists()
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "m", local_files_only=True)
    assert equal_states(state(plain), state(merged))
    assert AutoTokenizer.from_pretrained(tmp_path / "m", local_files_only=True)("Ada").input_ids
    assert str(base.folder) not in (tmp_path / "m" / "config.json").read_text()
    with torch.inference_mode():
        attached = load_seed(LORA, lora_adapter, base)
        assert (forward(merged, IDS) - forward(attached, IDS)).abs().max() < 1e-4
        assert (forward(merged, IDS) - forward(base.model(), IDS)).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_kasa_folds_from_the_pristine_float32_base(base: Base, dtype: str, tmp_path: Path) -> None:
    coarse = replace(base, compute=replace(base.compute, dtype=dtype))
    method = Kasa(rank=3, alpha=6.0)
    source = adapter(coarse, method, tmp_path, "kasa")
    found = merge_seed(method, source, coarse, tmp_path / "m", fact_rows().tail(4), 2)
    require_parity(found, 1e-4, "runs.kasa")
    assert (source / "kasa_factors.safetensors").is_file()
    assert not (tmp_path / "m" / "kasa_factors.safetensors").exists()


def test_merging_twice_gives_equal_bytes(base: Base, lora_adapter: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        merge(LORA, lora_adapter, base, tmp_path / name)
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("a", "b"))
    assert one == two


def test_a_method_that_does_not_fold_stays_composed(base: Base, tmp_path: Path) -> None:
    method = Peft(type="prompt_tuning", num_virtual_tokens=4)  # type: ignore[call-arg]
    source = adapter(base, method, tmp_path, "peft")
    merged = merge(method, source, base, tmp_path / "m")
    assert {p.name for p in (tmp_path / "m").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", ADAPTER_CARD, COMPOSED, MERGED
    }  # fmt: skip
    assert read_json(tmp_path / "m" / MERGED)["kind"] == "composed"
    assert read_json(tmp_path / "m" / COMPOSED) == {
        "method": "peft", "options": {"type": "prompt_tuning", "num_virtual_tokens": 4}
    }  # fmt: skip
    with torch.inference_mode():
        assert torch.equal(forward(merged, IDS), forward(load_seed(method, source, base), IDS))
        assert torch.equal(forward(open_merged(tmp_path / "m", base), IDS), forward(merged, IDS))


def test_full_fine_tuning_merges_to_itself(base: Base, tmp_path: Path) -> None:
    source = adapter(base, Full(), tmp_path, "full")
    merged = merge(Full(), source, base, tmp_path / "m")
    assert equal_states(state(merged), state(load_seed(Full(), source, base)))


def test_folding_is_done_in_float32(base: Base, lora_adapter: Path, tmp_path: Path) -> None:
    coarse = Base(base.card, base.folder, Compute("cpu", "bfloat16", "none", 1), TASK)
    fine = merge(LORA, lora_adapter, base, tmp_path / "fine")
    merged = merge(LORA, lora_adapter, coarse, tmp_path / "coarse")
    expected = {name: tensor.bfloat16() for name, tensor in fine.state_dict().items()}
    assert equal_states(state(merged), expected)


def test_another_base_is_refused(base: Base, lora_adapter: Path, tmp_path: Path) -> None:
    other = Base({**base.card, "digest": "0" * 64}, base.folder, base.compute, TASK)
    with pytest.raises(UserError, match=rf"^{lora_adapter}: made on a base with digest {base.digest[:12]}"):
        load_seed(LORA, lora_adapter, other)
    merge(LORA, lora_adapter, base, tmp_path / "m")
    with pytest.raises(UserError, match=r"but this base \(tiny\) has 000000000000"):
        open_merged(tmp_path / "m", other)


def test_parity_by_hand(base: Base, tokenizer: object) -> None:
    one, two = base.model(), base.model()
    two.lm_head.register_forward_hook(lambda _, args, out: out + torch.linspace(0, 1, 320))
    rows = fact_rows().head(5)
    found = parity(one, two, TASK, tokenizer, rows, 2)  # type: ignore[arg-type]
    assert found["num_rows"] == 5
    assert found["largest"] == pytest.approx(1.0, abs=1e-5)
    assert found["mean"] == pytest.approx(0.5, abs=1e-5)
    assert parity(one, one, TASK, tokenizer, rows, 2) == {"largest": 0.0, "mean": 0.0, "num_rows": 5}  # type: ignore[arg-type]


def test_padding_has_no_part_in_parity(base: Base, tokenizer: object) -> None:
    rows, other = fact_rows().head(6), base.model()
    other.model.norm.weight.data *= 1.01
    found = [parity(base.model(), other, TASK, tokenizer, rows, size) for size in (1, 6)]  # type: ignore[arg-type]
    assert found[0]["mean"] == pytest.approx(found[1]["mean"], rel=1e-4)
    assert found[0]["largest"] == pytest.approx(found[1]["largest"], rel=1e-4)


def test_beyond_the_bound_is_an_error() -> None:
    require_parity({"largest": 0.001, **RECORDED}, 0.001, "merge x, seed 0")
    for largest, shown in ((0.00123456, "0.00123"), (math.nan, "nan")):
        with pytest.raises(UserError) as caught:
            require_parity({"largest": largest, **RECORDED}, 0.001, "merge x, seed 0")
        assert str(caught.value) == (
            f"merge x, seed 0: the merged model's logits differ from the attached one's by up to {shown}; allowed: "
            "0.001 (merge.parity). The method does not fold as PEFT says it does, or the bound is too small for this "
            "model"
        )


def test_a_model_that_gives_no_number_fails_parity(base: Base, tokenizer: object) -> None:
    broken = base.model()
    broken.lm_head.register_forward_hook(lambda _, args, out: out * torch.nan)
    for attached, merged in ((base.model(), broken), (broken, base.model())):
        found = parity(attached, merged, TASK, tokenizer, fact_rows().head(3), 2)  # type: ignore[arg-type]
        with pytest.raises(UserError, match="by up to nan"):
            require_parity({**found, **RECORDED}, 0.001, "x")


def test_what_was_there_does_not_stay(base: Base, lora_adapter: Path, tmp_path: Path) -> None:
    shutil.copytree(lora_adapter, tmp_path / "adapter")
    merge(LORA, tmp_path / "adapter", base, tmp_path / "m")
    assert (tmp_path / "adapter" / "curve.csv").is_file()
    assert not (tmp_path / "m" / "curve.csv").exists()
