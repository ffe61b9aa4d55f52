"""What is exported loads in plain PEFT, in a process without knowtune, and computes the same."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from peft import PeftModel

from knowtune.common.errors import UserError
from knowtune.methods.sk_tuning.tuner.export import export_adapter

from .models import IDS, TEXT, WAYS, attach, bert, deepseek, gpt2, left_padded, llama, logits_of, moved, right_padded

MODELS = {
    "llama": llama,
    "gpt2": gpt2,
    "decoder classifies": lambda: llama("SequenceClassification"),
    "decoder names tokens": lambda: llama("TokenClassification"),
    "encoder classifies": bert,
    "encoder names tokens": lambda: bert("TokenClassification"),
}
LOAD = """
import gc, sys
gc.disable()  # which takes a fifth of the imports
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
assert "knowtune" not in sys.modules
plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
print(type(plain.active_peft_config).__name__)
torch.save(plain(input_ids=torch.load("ids")).logits, "logits")
"""


def own(logits, ids=IDS):
    """Leave out the logits of a prompt's positions."""
    return logits[:, -ids.shape[1] :] if logits.ndim == 3 else logits


@pytest.mark.parametrize(("variant", "form"), WAYS)
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_peft_computes_the_same(make, variant, form, tmp_path):
    attached = moved(attach(make(), variant=variant, form=form, dropout=0.5)).train()
    export_adapter(attached, tmp_path)
    assert all(module.training for module in attached.modules())
    plain = PeftModel.from_pretrained(make(), tmp_path)
    attached.eval()
    assert plain.active_peft_config.peft_type == f"{variant.upper()}_TUNING"
    assert torch.allclose(own(logits_of(plain)), logits_of(attached), atol=1e-5)
    padded = right_padded(IDS, 2)
    if not (variant == "prompt" and make is MODELS["decoder classifies"]):
        one, other = (model(**padded).logits for model in (plain, attached))
        if one.ndim == 3:
            one, other = own(one, padded["input_ids"])[:, :-2], other[:, :-2]
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Position ids are not supported")  # of PEFT's prompts, which drop generate's
@pytest.mark.parametrize("variant", ["prefix", "prompt"])
def test_peft_generates_the_same(variant, tmp_path):
    attached = moved(attach(llama(), variant=variant))
    export_adapter(attached, tmp_path)
    plain = PeftModel.from_pretrained(llama(), tmp_path)
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    inputs = {"input_ids": IDS} if variant == "prompt" else left_padded(IDS, 2)
    assert torch.equal(plain.generate(**inputs, **options), attached.generate(**inputs, **options))


def test_it_needs_no_knowtune(tmp_path):
    llama().save_pretrained(tmp_path / "base")
    attached = moved(attach(llama()))
    export_adapter(attached, tmp_path / "adapter")
    torch.save(IDS, tmp_path / "ids")
    options = {"cwd": tmp_path, "capture_output": True, "text": True, "check": False}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", LOAD], **options)
    assert done.stdout.strip() == "PrefixTuningConfig", done.stderr
    assert torch.allclose(torch.load(tmp_path / "logits"), logits_of(attached), atol=1e-5)


def test_what_peft_does_not_know_is_not_exported(tmp_path):
    pooled = attach(llama("SequenceClassification"), pooling="mean")
    with pytest.raises(UserError, match="PEFT knows no pooling but the model's own; this adapter's is 'mean'"):
        export_adapter(pooled, tmp_path)
    assert not any(tmp_path.iterdir()) and len(TEXT) == pooled.peft_config["default"].num_virtual_tokens


def test_keys_and_values_of_different_widths_are_not_exported(tmp_path):
    with pytest.raises(UserError, match="whose layers all have keys and values of one shape; keep the adapter"):
        export_adapter(attach(deepseek()), tmp_path)
    assert not any(tmp_path.iterdir())
