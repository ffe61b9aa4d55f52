from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t
from transformers import CONFIG_MAPPING

from knowtune.checkpoints.base import Base
from knowtune.checkpoints.cards import make_card
from knowtune.checkpoints.probe import probe
from knowtune.common.errors import UserError
from knowtune.models.compute import Compute
from knowtune.models.context_length import usable_context
from knowtune.models.heads import depends_on_batch, head_outputs, pooled_states
from knowtune.models.hidden_states import leaks
from knowtune.text.encode_pairs import encode_pairs
from knowtune.text.encoded import Labelled
from tests.unit.helpers import COMPUTE, REVIEWS, TASK, review_rows

SIZE = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 48,
}
HEADS = {**SIZE, "num_key_value_heads": 1}
GPT2 = {"vocab_size": 320, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 48}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
BERT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
CAUSAL: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", HEADS),
    "gpt2": ("gpt2", GPT2),
    "opt": ("opt", {**SIZE, "ffn_dim": 64, "word_embed_proj_dim": 32}),
    "sliding": ("mistral", {**HEADS, "sliding_window": 4}),
    "experts": ("mixtral", {**HEADS, **EXPERTS}),
    "recurrent": ("mamba", {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2}),
    "alibi": ("bloom", {"vocab_size": 320, "hidden_size": 32, "n_layer": 2, "n_head": 2}),
    "bert as decoder": ("bert", {**SIZE, "is_decoder": True}),
    "roberta as decoder": ("roberta", {**SIZE, "is_decoder": True, "pad_token_id": 1}),
}
NOT_CAUSAL: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", SIZE),
    "roberta": ("roberta", {**SIZE, "pad_token_id": 1}),
    "electra": ("electra", {**SIZE, "embedding_size": 32}),
    "xlnet": ("xlnet", {"vocab_size": 320, "d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64}),
    "llama, both ways": ("llama", {**HEADS, "is_causal": False}),
    "mixtral, both ways": ("mixtral", {**HEADS, **EXPERTS, "is_causal": False}),
}


def made(kind: Any, name: str, said: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return kind.from_config(CONFIG_MAPPING[name](**said)).eval()


def saved(model: Any, base: Base, folder: Path) -> Path:
    model.save_pretrained(folder)
    base.tokenizer().save_pretrained(folder)
    return folder


class TestCausal:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("name", CAUSAL)
    def test_models_that_write(self, name: str, dtype: torch.dtype) -> None:
        assert not leaks(made(t.AutoModelForCausalLM, *CAUSAL[name]).to(dtype), None)

    @pytest.mark.parametrize("attention", ["eager", "sdpa"])
    @pytest.mark.parametrize("name", NOT_CAUSAL)
    def test_models_that_read_both_ways(self, name: str, attention: str) -> None:
        kind, said = NOT_CAUSAL[name]
        if kind == "xlnet" and attention == "sdpa":
            attention = "eager"  # it has no other
        model = made(t.AutoModelForCausalLM, kind, {**said, "attn_implementation": attention})
        assert leaks(model, None)

    def test_trained_weights_in_bfloat16(self) -> None:
        model = made(t.AutoModelForCausalLM, "bert", {**SIZE, "initializer_range": 0.2})
        assert leaks(model.to(torch.bfloat16), None)

    def test_it_is_refused_with_the_way_out_and_serves_as_a_classifier(self, base: Base, tmp_path: Path) -> None:
        model = made(t.AutoModelForMaskedLM, "roberta", {**SIZE, "pad_token_id": 1})
        folder = saved(model, base, tmp_path / "m")
        card = make_card(folder, "m")
        assert card["context"] == 46
        assert card["notes"] == ["config.json says 48 tokens of context; 46 can be used"]
        with pytest.raises(UserError) as caught:
            probe(card, folder, COMPUTE, TASK)
        assert str(caught.value) == (
            f"{folder}: RobertaForCausalLM is not causal: what it gives for a token changes with the tokens after it, "
            "so that it would read what it is to predict; give a model that writes text, set is_decoder: true (or "
            "is_causal: true) in config.json if this one was trained to, or make it a classification"
        )
        assert probe(card, folder, COMPUTE, REVIEWS)["context"] == 46

    def test_the_tiny_base_passes_as_both(self, base: Base) -> None:
        for task in (TASK, REVIEWS):
            assert probe(base.card, base.folder, COMPUTE, task) == base.card
            assert probe(base.card, base.folder, Compute(dtype="bfloat16"), task) == base.card

    def test_numbers_that_are_too_large_for_the_number_format(self, base: Base, tmp_path: Path) -> None:
        model: Any = base.model()
        with torch.no_grad():
            model.model.embed_tokens.weight.mul_(1e15)
            model.model.norm.weight.mul_(1e26)
        folder = saved(model, base, tmp_path / "m")
        with pytest.raises(UserError, match=r"LlamaForCausalLM: what it computes in torch\.float32 is not finite"):
            probe(make_card(folder, "m"), folder, COMPUTE, TASK)

    def test_a_model_that_cannot_be_run(self, base: Base, tmp_path: Path) -> None:
        model = made(t.AutoModelForMaskedLM, "roberta", {**SIZE, "pad_token_id": 1})
        folder = saved(model, base, tmp_path / "m")
        config = t.RobertaConfig.from_pretrained(folder)
        config.pad_token_id = None
        config.save_pretrained(folder)
        with pytest.raises(UserError, match=r"RobertaForSequenceClassification cannot read a text: .*; look at config"):
            probe(make_card(folder, "m"), folder, COMPUTE, REVIEWS)


class TestContext:
    @pytest.mark.parametrize(
        ("name", "said", "claimed", "expected"),
        [
            ("roberta", {**SIZE, "pad_token_id": 1}, 48, 46),
            ("roberta", {**SIZE, "pad_token_id": 5}, 48, 42),
            ("xlm-roberta", {**SIZE, "pad_token_id": 1}, 48, 46),
            ("camembert", {**SIZE, "pad_token_id": 1}, 48, 46),
            ("mpnet", {**SIZE, "pad_token_id": 1}, 48, 46),
            ("bert", SIZE, 48, 48),
            ("bert", SIZE, 512, 48),
            ("electra", {**SIZE, "embedding_size": 32}, 48, 48),
            ("albert", {**SIZE, "embedding_size": 32}, 48, 48),
            ("opt", {**SIZE, "ffn_dim": 64, "word_embed_proj_dim": 32}, 48, 48),
            ("gpt2", GPT2, 48, 48),
            ("gpt2", GPT2, None, 48),
            ("llama", HEADS, 48, 48),
            ("llama", HEADS, None, None),
            ("mixtral", {**HEADS, **EXPERTS}, 48, 48),
            ("mamba", CAUSAL["recurrent"][1], None, None),
            ("bloom", CAUSAL["alibi"][1], None, None),
            ("deberta-v2", {**SIZE, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}, 48, 48),
        ],
    )
    def test_rows_of_positions_are_counted(
        self, name: str, said: dict[str, Any], claimed: int | None, expected: int | None
    ) -> None:
        assert usable_context(made(t.AutoModel, name, said), claimed) == expected

    def test_a_text_of_that_length_is_read_and_no_longer_one(self) -> None:
        model = made(t.AutoModel, "roberta", {**SIZE, "pad_token_id": 1})
        model(input_ids=torch.full((1, 46), 7))
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.full((1, 47), 7))

    def test_what_no_table_shows_is_found_by_reading(self) -> None:
        model = made(t.AutoModel, "llama", HEADS)

        def limit(module: Any, args: Any, given: dict[str, Any]) -> None:
            if given["input_ids"].shape[1] > 37:
                raise RuntimeError("too long")

        model.register_forward_pre_hook(limit, with_kwargs=True)
        assert usable_context(model, 48) == 37


DECODERS = {
    "llama": ("llama", HEADS),
    "gpt2": ("gpt2", GPT2),
    "opt": ("opt", {**SIZE, "ffn_dim": 64, "word_embed_proj_dim": 32}),
    "qwen2": ("qwen2", HEADS),
    "mixtral": ("mixtral", {**HEADS, **EXPERTS}),
}
ENCODERS = {
    "bert": ("bert", {**SIZE, **BERT}),
    "roberta": ("roberta", {**SIZE, **BERT}),
    "distilbert": ("distilbert", {"vocab_size": 320, "dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2}),
    "electra": ("electra", {**SIZE, **BERT, "embedding_size": 32}),
    "deberta": ("deberta-v2", {**SIZE, **BERT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "albert": ("albert", {**SIZE, **BERT, "embedding_size": 32}),
}


class TestARowAloneEqualsItInABatch:
    @pytest.mark.parametrize("pad", [0, 1, 2, 77, None])
    @pytest.mark.parametrize("name", [*DECODERS, *ENCODERS])
    def test_whatever_config_and_tokenizer_pad_with(
        self, name: str, pad: int | None, base: Base, tmp_path: Path
    ) -> None:
        if name in ENCODERS and pad in (77, None):
            pytest.skip("an encoder of this kind is built on its padding token")
        kind, said = {**DECODERS, **ENCODERS}[name]
        heads = t.AutoModelForSequenceClassification
        folder = saved(made(heads, kind, {**said, "pad_token_id": pad}), base, tmp_path / "m")
        model: Any = REVIEWS.load_model(folder, dtype=torch.float32)
        generator = torch.Generator().manual_seed(1)
        rows = [
            Labelled(torch.randint(3, 320, (length,), generator=generator).tolist(), None, 0.0, filling)
            for length, filling in ((2, 2), (9, 2), (5, 2), (1, 2), (12, 2))
        ]
        rows += [Labelled([9, 1], None, 0.0, 2), Labelled([2, 8, 2], None, 0.0, 2), Labelled([77, 77], None, 0.0, 2)]
        alone, beside = head_outputs(model, rows, 1, "x"), head_outputs(model, rows, 8, "x")
        assert torch.allclose(alone, beside, atol=1e-5)
        assert (alone - alone[0]).abs().max() > 1e-3
        texts = review_rows()["prompt"].tolist()[:6]
        one, two = (pooled_states(model, base.tokenizer(), texts, size, 40, "x")[1] for size in (1, 6))
        assert torch.allclose(one, two, atol=1e-5)
        assert not depends_on_batch(model, base.tokenizer(), 40)

    @pytest.mark.parametrize("kind", ["PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "LORA"])
    @pytest.mark.parametrize("name", ["llama", "gpt2", "opt"])
    def test_adapters_too(self, name: str, kind: str, base: Base, tmp_path: Path) -> None:
        from peft import get_peft_config, get_peft_model

        folder = saved(made(t.AutoModelForSequenceClassification, *DECODERS[name]), base, tmp_path / "m")
        options = {"fan_in_fan_out": name == "gpt2"} if kind == "LORA" else {"num_virtual_tokens": 3}
        config = get_peft_config({"peft_type": kind, "task_type": "SEQ_CLS", **options})
        model: Any = get_peft_model(REVIEWS.load_model(folder, dtype=torch.float32), config).eval()
        texts = review_rows()["prompt"].head(6).tolist()
        rows = encode_pairs(base.tokenizer(), texts, [], [0.0] * 6, max_tokens=40)
        assert len({len(row.input_ids) for row in rows}) > 2
        alone, beside = head_outputs(model, rows, 1, "x"), head_outputs(model, rows, 6, "x")
        assert torch.allclose(alone, beside, atol=1e-5)
        assert (alone - alone[0]).abs().max() > 1e-4

    def test_a_model_that_does_not_leave_out_padding_is_refused(self, base: Base, tmp_path: Path) -> None:
        said = {key: value for key, value in SIZE.items() if key != "num_attention_heads"}
        model = made(t.AutoModelForSequenceClassification, "fnet", {**said, "use_tpu_fourier_optimizations": False})
        folder = saved(model, base, tmp_path / "m")
        with pytest.raises(UserError, match="FNetForSequenceClassification gives a row another answer beside longer"):
            probe(make_card(folder, "m"), folder, COMPUTE, REVIEWS)
