"""Stand-ins for the tiny models that PEFT's tests load from the hub, as a hub cache on disk.

Each has the architecture that its name tells, tiny sizes, and random weights from a fixed seed. They lie as the hub's
client would have stored them, so `from_pretrained` with the hub's name finds them offline, and nothing of PEFT or
transformers is patched.
"""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

_SIZES = {
    "vocab_size": 128,
    "hidden_size": 32,  # the tests use ranks up to 28
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,  # at the usual 0.02 a change in one of so few weights drowns in the tests' tolerances
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_LLAMA = {**_SIZES, "intermediate_size": 64, "num_key_value_heads": 4}
_BERT = {**_SIZES, "intermediate_size": 32}
_GPT2 = {"vocab_size": 128, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}
_GPT = {**_GPT2, "bos_token_id": 1, "eos_token_id": 2}
_OPT = {**_SIZES, "ffn_dim": 64, "word_embed_proj_dim": 32, "init_std": 0.2}
_T5 = {
    "vocab_size": 128,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
_BART = {
    **{"vocab_size": 128, "d_model": 32, "max_position_embeddings": 64, "init_std": 0.2, "forced_eos_token_id": 2},
    **{
        f"{side}_{what}": n
        for side in ("encoder", "decoder")
        for what, n in (("layers", 2), ("attention_heads", 4), ("ffn_dim", 32))
    },
}

# Name on the hub -> (class of the model, arguments of its config).
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "peft-internal-testing/tiny-random-OPTForCausalLM": ("OPTForCausalLM", _OPT),
    "peft-internal-testing/tiny-random-GPT2LMHeadModel": ("GPT2LMHeadModel", _GPT),
    "peft-internal-testing/tiny-random-GPTJForCausalLM": ("GPTJForCausalLM", {**_GPT, "rotary_dim": 4}),
    "trl-internal-testing/tiny-random-LlamaForCausalLM": ("LlamaForCausalLM", _LLAMA),
    "peft-internal-testing/tiny-dummy-qwen2": ("Qwen2ForCausalLM", _LLAMA),
    "hf-internal-testing/tiny-random-Gemma3ForCausalLM": ("Gemma3ForCausalLM", {**_LLAMA, "head_dim": 8}),
    "peft-internal-testing/tiny-random-T5ForConditionalGeneration-calibrated": ("T5ForConditionalGeneration", _T5),
    "peft-internal-testing/tiny-random-BartForConditionalGeneration": ("BartForConditionalGeneration", _BART),
    "peft-internal-testing/tiny-random-BertModel": ("BertModel", _BERT),
    "peft-internal-testing/tiny-random-RobertaModel": ("RobertaModel", _BERT),
    "peft-internal-testing/tiny-random-DebertaModel": ("DebertaModel", _BERT),
    "peft-internal-testing/tiny-random-DebertaV2Model": ("DebertaV2Model", _BERT),
    "peft-internal-testing/tiny-random-BertForSequenceClassification": ("BertForSequenceClassification", _BERT),
    "peft-internal-testing/tiny-random-RobertaForSequenceClassification": ("RobertaForSequenceClassification", _BERT),
    "trl-internal-testing/tiny-LlamaForSequenceClassification-3.2": (
        "LlamaForSequenceClassification",
        {**_LLAMA, "num_labels": 1},
    ),
}
for _name in ("gpt2", "MistralForCausalLM"):  # the small grid of test_decoder_models.py
    _class = "GPT2LMHeadModel" if _name == "gpt2" else _name
    MODELS[f"hf-internal-testing/tiny-random-{_name}"] = (_class, _GPT if _name == "gpt2" else _LLAMA)

# Name on the hub -> (revision, config of the adapter): tests of configs load these and look at no weight.
ADAPTERS = {
    "peft-internal-testing/tiny-opt-lora-revision": ("test", {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8}),
}


def _store(cache: Path, name: str, revision: str, save: Callable[[Path], object]) -> None:
    """Let `save` fill a snapshot of a repository in the hub's cache."""
    repository = cache / f"models--{name.replace('/', '--')}"
    commit = hashlib.sha1(name.encode()).hexdigest()
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True, exist_ok=True)
    save(snapshot)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / revision).write_text(commit)


def _write(config: dict[str, Any], folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps(config))


def build(cache: Path) -> None:
    """Write every stand-in, unless this table's are already there."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    stamp = cache / "stamp"
    key = hashlib.sha256(Path(__file__).read_bytes() + transformers.__version__.encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == key:
        return
    for name, (class_name, arguments) in MODELS.items():
        torch.manual_seed(0)
        model_class = getattr(transformers, class_name)
        model = model_class(model_class.config_class(**arguments))
        _store(cache, name, "main", model.save_pretrained)
    for name, (revision, config) in ADAPTERS.items():
        _store(cache, name, revision, partial(_write, config))
    stamp.write_text(key)
