"""What is trained is what is saved, loaded, merged and mixed, whatever the names of weights on disk."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from knowtune.checkpoints.base import Base
from knowtune.checkpoints.cards import CARD, MERGED, make_card
from knowtune.common.errors import UserError
from knowtune.common.files import write_json
from knowtune.merging.fold import load_seed, merge_seed, open_merged
from knowtune.merging.mix import mix
from knowtune.merging.mixtures.average import Average
from knowtune.merging.mixtures.dare import Dare
from knowtune.merging.mixtures.interpolate import Interpolate
from knowtune.merging.mixtures.lines import Lines
from knowtune.merging.mixtures.ties import Ties
from knowtune.merging.parity import require_parity
from knowtune.methods.base import Method
from knowtune.methods.fish.method import Fish
from knowtune.methods.full import Full
from knowtune.methods.lora import Lora
from knowtune.methods.peft import Peft
from knowtune.methods.peft_adapters import ADAPTER_WEIGHTS
from knowtune.models.forward import forward, logits_of
from knowtune.models.heads import head_parameters
from knowtune.models.load import new_modules
from knowtune.training.outputs import RECORD
from knowtune.training.run import Job, train_seed
from knowtune.training.trainer import KnowledgeTrainer
from tests.unit.helpers import (
    COMPUTE,
    REVIEWS,
    TASK,
    counted_calls,
    encoded,
    equal_states,
    fact_rows,
    recipe,
    review_rows,
    state,
    word_pieces,
)

IDS = [[1, 5, 9, 30, 200], [7, 8]]
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = {**SMALL, "intermediate_size": 64, "num_key_value_heads": 2, "max_position_embeddings": 64}
EXPERTS = {"num_experts_per_tok": 2, "num_experts": 4}
KINDS: dict[str, dict[str, Any]] = {
    "mixtral": {**LLAMA, "num_local_experts": 4},
    "qwen2_moe": {**LLAMA, **EXPERTS, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32},
    "qwen3_moe": {**LLAMA, **EXPERTS, "moe_intermediate_size": 32, "head_dim": 8, "decoder_sparse_step": 1},
    "olmoe": {**LLAMA, **EXPERTS},
    "gpt_oss": {**LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8, "sliding_window": 8},
    "deepseek_v2": {
        **LLAMA, "num_key_value_heads": 4, "q_lora_rank": None, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "n_group": 1,
        "qk_rope_head_dim": 8, "v_head_dim": 8, "n_routed_experts": 4, "n_shared_experts": 1, "topk_group": 1,
        "num_experts_per_tok": 2, "moe_intermediate_size": 32, "first_k_dense_replace": 1,
    },
    "llama": {**LLAMA, "tie_word_embeddings": False},
    "gemma2": {**LLAMA, "head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8},
    "phi3": LLAMA,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "opt": {**SMALL, "ffn_dim": 64, "word_embed_proj_dim": 32, "max_position_embeddings": 64},
    "gpt_neox": {**SMALL, "intermediate_size": 64, "max_position_embeddings": 64},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
}  # fmt: skip
CONTRARY = fact_rows().head(4).assign(target="quiz")  # whose loss rises while the facts are learned
MIXTURES_OF_EXPERTS = list(KINDS)[:6]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def made(kind: str, base: Base, folder: Path, **options: Any) -> Base:
    """Save a tiny random model of a kind, with the tokenizer of the tests' base; with large weights, to say much."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    tokenizer = base.tokenizer()
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": None}
    torch.manual_seed(1)
    config = CONFIG_MAPPING[kind](**{"vocab_size": len(tokenizer), **KINDS[kind], **ends, **options})
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)
    model.save_pretrained(folder, max_shard_size="100KB")
    tokenizer.save_pretrained(folder)
    write_json(folder / CARD, make_card(folder, kind))
    return Base.open(folder, folder, COMPUTE, TASK)


def trained(base: Base, method: Method, name: str, folder: Path, work: Path, **options: Any) -> Path:
    """Train a seed as the pipeline does."""
    rows = fact_rows().head(8)
    changes = {"epochs": 3, "learning_rate": 0.01, **options}
    validation = CONTRARY if options.get("load_best_model_at_end") else rows[:0]
    job = Job(name, name, method, recipe(**changes), 0, rows, validation, None)
    train_seed(job, base, folder, work)
    return folder


@pytest.mark.parametrize("name", ["full", "lora"])
def test_what_is_merged_is_what_was_trained(kind: str, name: str, base: Base, tmp_path: Path) -> None:
    targets: Any = ["in_proj", "x_proj"] if kind == "mamba" else "all-linear"
    method: Method = Full() if name == "full" else Lora(rank=2, alpha=4.0, target_modules=targets)
    model = made(kind, base, tmp_path / "base")
    source = trained(model, method, "x", tmp_path / "seed", tmp_path / "work")
    found = merge_seed(method, source, model, tmp_path / "merged", fact_rows().tail(4), 4)
    assert found["largest"] < 1e-4
    assert found["trained"] < 1e-4
    with torch.inference_mode():
        attached, merged = (
            forward(m, IDS) for m in (load_seed(method, source, model), open_merged(tmp_path / "merged", model))
        )
        assert (attached - merged).abs().max() < 1e-4
        assert (forward(model.model(), IDS) - merged).abs().max() > 0.01


LORA = {"type": "lora", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
TIED: dict[str, tuple[dict[str, Any], bool]] = {  # options, and whether what is merged is still tied
    "neither": (LORA, True),
    "the output layer": ({**LORA, "target_modules": ["lm_head"]}, False),
    "the embeddings": ({**LORA, "target_modules": ["embed_tokens"]}, False),
    "both": ({**LORA, "target_modules": ["embed_tokens", "lm_head"]}, False),
    "both alike": ({**LORA, "target_modules": ["embed_tokens"], "ensure_weight_tying": True}, True),
    "the output layer, whole": ({**LORA, "modules_to_save": ["lm_head"]}, False),
    "the embeddings, whole": ({**LORA, "modules_to_save": ["embed_tokens"]}, False),
    "both alike, whole": ({**LORA, "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}, True),
    "some tokens": ({**LORA, "trainable_token_indices": [5, 9, 300]}, True),
    "some tokens of the output layer": ({**LORA, "trainable_token_indices": {"lm_head": [5, 9, 300]}}, False),
    "tokens alone": ({"type": "trainable_tokens", "token_indices": [5, 9, 300]}, True),
    "another type": ({"type": "ia3", "target_modules": ["lm_head"], "feedforward_modules": []}, False),
}


@pytest.mark.parametrize("what", TIED)
def test_an_adapter_on_a_tied_base_merges_to_what_was_trained(what: str, base: Base, tmp_path: Path) -> None:
    options, tied = TIED[what]
    method = Peft(**options)
    source = trained(base, method, "peft", tmp_path / "seed", tmp_path / "work")
    found = merge_seed(method, source, base, tmp_path / "merged", fact_rows().tail(4), 4)
    require_parity(found, 1e-3, "x")
    merged: Any = open_merged(tmp_path / "merged", base)
    assert (merged.lm_head.weight is merged.model.embed_tokens.weight) == tied
    assert merged.config.tie_word_embeddings == tied
    with torch.inference_mode():
        assert (forward(merged, IDS) - forward(base.model(), IDS)).abs().max() > 1e-3


def test_masks_keep_ties(base: Base, tmp_path: Path) -> None:
    method, rows = Fish(), fact_rows().head(8)
    mask = {"model.embed_tokens.weight": torch.arange(0, 320 * 64, 3)}
    train_seed(Job("x", "fish", method, recipe(), 0, rows, rows[:0], mask), base, tmp_path / "seed", tmp_path / "work")
    require_parity(merge_seed(method, tmp_path / "seed", base, tmp_path / "merged", rows, 4), 1e-4, "x")
    merged: Any = open_merged(tmp_path / "merged", base)
    assert merged.lm_head.weight is merged.model.embed_tokens.weight
    changed = (merged.lm_head.weight != base.model().lm_head.weight).flatten()  # type: ignore[union-attr]
    assert changed[mask["model.embed_tokens.weight"]].any()
    changed[mask["model.embed_tokens.weight"]] = False
    assert not changed.any()


BERT = {**SMALL, "intermediate_size": 64, "max_position_embeddings": 48}
CLASSIFIERS: dict[str, tuple[dict[str, Any], set[str]]] = {  # a masked language model's config; what is new
    "deberta-v2": (BERT, {"pooler", "classifier"}),
    "distilbert": (
        {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 48},
        {"pre_classifier", "classifier"},
    ),
    "roberta": ({**BERT, "type_vocab_size": 1, "pad_token_id": 0}, {"classifier"}),
    "electra": ({**BERT, "embedding_size": 32}, {"classifier"}),
    "albert": ({**BERT, "embedding_size": 16}, {"albert.pooler", "classifier"}),
    "bert": (BERT, {"bert.pooler", "classifier"}),
}


@pytest.mark.parametrize("kind", CLASSIFIERS)
class TestNewHeads:
    """All that a classifier's checkpoint has not is trained and saved, or the method is refused before training."""

    @pytest.fixture
    def model(self, kind: str, tmp_path: Path) -> Base:
        from transformers import CONFIG_MAPPING, AutoModelForMaskedLM

        words, folder = word_pieces(), tmp_path / "base"
        torch.manual_seed(1)
        config = CONFIG_MAPPING[kind](**{"vocab_size": len(words), **CLASSIFIERS[kind][0]})
        AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
        words.save_pretrained(folder)
        write_json(folder / CARD, make_card(folder, kind))
        return Base.open(folder, folder, COMPUTE, REVIEWS)

    def seed(self, model: Base, method: Method, folder: Path, mask: Any = None) -> Path:
        rows = review_rows().head(8)
        job = Job("x", "x", method, recipe(learning_rate=0.02), 0, rows, rows[:0], mask)
        train_seed(job, model, folder / "seed", folder / "work")
        return folder / "seed"

    @pytest.mark.parametrize("name", ["lora", "ia3", "full", "fish"])
    def test_they_are_trained_saved_and_merged(self, kind: str, name: str, model: Base, tmp_path: Path) -> None:
        ia3 = {"type": "ia3", "target_modules": "all-linear", "feedforward_modules": []}
        methods: dict[str, Method] = {
            "lora": Lora(rank=2, alpha=4.0),
            "ia3": Peft(**ia3),
            "full": Full(),
            "fish": Fish(),
        }
        torch.manual_seed(0)
        before = model.model()
        head = head_parameters(before)
        assert {m for m in CLASSIFIERS[kind][1] for parameter in head if parameter.startswith(f"{m}.")} == new_modules(
            before
        )
        assert new_modules(before) == CLASSIFIERS[kind][1]
        named = [n for n, p in before.named_parameters() if n not in head and p.ndim > 1]
        mask = {n: torch.arange(5) for n in named} if name == "fish" else None
        source = self.seed(model, methods[name], tmp_path, mask)
        torch.manual_seed(99)  # what is new on loading is other than what was new in training
        found = merge_seed(methods[name], source, model, tmp_path / "merged", review_rows().tail(6), 6)
        require_parity(found, 1e-4, "x")
        torch.manual_seed(0)
        fresh, merged = state(model.model()), state(open_merged(tmp_path / "merged", model))
        assert all(not torch.equal(fresh[parameter], merged[parameter]) for parameter in head)

    def test_a_head_that_would_stay_random_is_refused(self, kind: str, model: Base, tmp_path: Path) -> None:
        method = Peft(type="trainable_tokens", token_indices=[3], target_modules=["word_embeddings"])  # type: ignore[call-arg]
        with pytest.raises(UserError, match="trainable_tokens"):
            self.seed(model, method, tmp_path)
        assert not (tmp_path / "work").exists()

    def test_what_cannot_be_computed_is_refused_before_training(self, kind: str, model: Base, tmp_path: Path) -> None:
        if kind != "deberta-v2":
            pytest.skip("the others have what prefixes need")
        with pytest.raises(UserError, match=r"^train x, seed 0: the base cannot be computed with this method: "):
            self.seed(model, Peft(type="prefix_tuning", num_virtual_tokens=2), tmp_path)  # type: ignore[call-arg]
        assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("kind", MIXTURES_OF_EXPERTS)
class TestExperts:
    def test_all_of_them_are_trained_and_merged(self, kind: str, base: Base, tmp_path: Path) -> None:
        model = made(kind, base, tmp_path / "base")
        source = trained(model, Full(), "full", tmp_path / "seed", tmp_path / "work")
        merge_seed(Full(), source, model, tmp_path / "merged", fact_rows().tail(4), 4)
        before, after = state(model.model()), state(open_merged(tmp_path / "merged", model))
        experts = [name for name in before if ".experts." in name and before[name].ndim == 3]
        assert len(experts) >= 2
        assert all((after[name] - before[name]).abs().max() > 1e-3 for name in experts)

    def test_a_killed_training_goes_on_to_the_same_bytes(self, kind: str, base: Base, tmp_path: Path) -> None:
        model = made(kind, base, tmp_path / "base")
        whole = trained(model, Full(), "full", tmp_path / "whole", tmp_path / "work-whole", save_steps=2)
        with counted_calls(KnowledgeTrainer, "compute_loss", 5, RuntimeError("killed")), pytest.raises(RuntimeError):
            trained(model, Full(), "full", tmp_path / "parts", tmp_path / "work-parts", save_steps=2)
        assert (tmp_path / "work-parts/checkpoints/checkpoint-4").is_dir()
        parts = trained(model, Full(), "full", tmp_path / "parts", tmp_path / "work-parts", save_steps=2)
        assert {p.name: p.read_bytes() for p in whole.iterdir()} == {p.name: p.read_bytes() for p in parts.iterdir()}

    @pytest.mark.parametrize("mixture", [Average(), Ties(density=1.0), Dare(density=1.0)])
    def test_they_are_mixed(self, kind: str, mixture: Any, base: Base, tmp_path: Path) -> None:
        if kind != "mixtral" and not isinstance(mixture, Average):
            pytest.skip("one kind is enough")
        model, folders = made(kind, base, tmp_path / "base"), []
        for run, rate in (("a", 0.01), ("b", -0.01)):
            member: Any = model.model()
            with torch.no_grad():
                for parameter in member.parameters():
                    parameter += rate if run == "b" else torch.arange(parameter.numel()).view_as(parameter) * rate
            folders.append(tmp_path / run / "seed-0")
            member.save_pretrained(folders[-1])
            write_json(folders[-1] / "merged.json", {"base_digest": model.digest})
        mix(mixture, folders, [3.0, 1.0], model, tmp_path / "mixed", 0)
        before, one, two, found = (
            state(m) for m in (model.model(), *(open_merged(f, model) for f in (*folders, tmp_path / "mixed")))
        )
        for name in found:
            changes, weights = [one[name] - before[name], two[name] - before[name]], torch.tensor([0.75, 0.25])
            assert torch.allclose(
                found[name], before[name] + mixture.combine(changes, weights, 0), rtol=1e-4, atol=1e-5
            )
        assert not equal_states(found, before)


@pytest.mark.parametrize("kind", ["mixtral", "deepseek_v2", "gpt2", "gpt_neox"])
def test_the_first_block_goes_back_and_the_last_is_kept_bit_for_bit(kind: str, base: Base, tmp_path: Path) -> None:
    model, folder = made(kind, base, tmp_path / "base"), tmp_path / "a" / "seed-0"
    member: Any = model.model()
    with torch.no_grad():
        for parameter in member.parameters():
            parameter.mul_(-1.3)
    member.save_pretrained(folder)
    write_json(folder / MERGED, {"base_digest": model.digest})
    mix(Lines(), [folder], [1.0], model, tmp_path / "mixed" / "seed-0", 0)
    before, after, mixed = (
        state(m) for m in (model.model(), *(open_merged(f, model) for f in (folder, tmp_path / "mixed" / "seed-0")))
    )
    for name, tensor in mixed.items():
        last = any(part in name for part in (".layers.1.", ".h.1."))
        assert torch.equal(tensor, (after if last else before)[name]), name


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_a_lasting_buffer_goes_as_far_as_the_weights(
    alpha: float, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KINDS, "deepseek_v3", {**KINDS["deepseek_v2"], "q_lora_rank": 8, "num_hidden_layers": 2})
    model, folder = made("deepseek_v3", base, tmp_path / "base"), tmp_path / "a" / "seed-0"
    member: Any = model.model()
    buffer = "model.layers.1.mlp.gate.e_score_correction_bias"
    member.get_buffer(buffer).add_(2.0)
    member.save_pretrained(folder)
    write_json(folder / MERGED, {"base_digest": model.digest})
    mix(Interpolate(alpha=alpha), [folder], [1.0], model, tmp_path / "mixed" / "seed-0", 0)
    before, mixed = state(model.model()), state(open_merged(tmp_path / "mixed" / "seed-0", model))
    assert torch.equal(mixed.pop(buffer), before.pop(buffer) + 2 * alpha)
    assert equal_states(mixed, before)


ALIVE: list[int] = []


class Counting(Average):
    def combine(self, changes: Any, weights: torch.Tensor, seed: int) -> torch.Tensor:
        from transformers import PreTrainedModel

        ALIVE.append(len({id(m) for m in gc.get_objects() if isinstance(m, PreTrainedModel) and m.base_model is not m}))
        return super().combine(changes, weights, seed)


@pytest.mark.parametrize("kind", ["mixtral", "llama"])
def test_a_mixture_holds_one_model_in_memory(kind: str, base: Base, tmp_path: Path) -> None:
    model, folders = made(kind, base, tmp_path / "base"), []
    for run in ("a", "b", "c"):
        folders.append(tmp_path / run / "seed-0")
        model.model().save_pretrained(folders[-1], max_shard_size="50KB")
        write_json(folders[-1] / MERGED, {"base_digest": model.digest})
    gc.collect()
    gc.freeze()
    ALIVE.clear()
    mix(Counting(), folders, [1.0, 1.0, 1.0], model, tmp_path / "mixed" / "seed-0", 0)
    assert set(ALIVE) == {1}
    assert [path.name for path in (tmp_path / "mixed").iterdir()] == ["seed-0"]  # nothing is left beside it


@pytest.mark.parametrize("kind", ["mixtral", "llama"])
class TestPartsThatCannotBeMixed:
    @pytest.fixture
    def parts(self, kind: str, base: Base, tmp_path: Path) -> tuple[Base, Path]:
        model = made(kind, base, tmp_path / "base")
        folder = tmp_path / "a" / "seed-0"
        model.model().save_pretrained(folder)
        write_json(folder / MERGED, {"base_digest": model.digest})
        return model, folder

    def refused(self, parts: tuple[Base, Path], tmp_path: Path) -> str:
        with pytest.raises(UserError) as caught:
            mix(Average(), [parts[1]], [1.0], parts[0], tmp_path / "mixed" / "seed-0", 0)
        assert list((tmp_path / "mixed").iterdir()) == []
        assert str(caught.value).startswith(str(parts[1]))
        assert "un the stage that wrote it again" in str(caught.value)
        return str(caught.value)

    @pytest.mark.parametrize("size", [0, 4, 5000])
    def test_cut_files(self, size: int, parts: tuple[Base, Path], tmp_path: Path) -> None:
        file = parts[1] / "model.safetensors"
        file.write_bytes(file.read_bytes()[:size])
        assert f"{file}: damaged" in self.refused(parts, tmp_path)

    def test_a_weight_that_is_missing(self, parts: tuple[Base, Path], tmp_path: Path) -> None:
        tensors = load_file(parts[1] / "model.safetensors")
        save_file({n: t for n, t in tensors.items() if n != "model.norm.weight"}, parts[1] / "model.safetensors")
        assert "1 weights of the model are missing, e.g. model.norm.weight" in self.refused(parts, tmp_path)

    def test_a_weight_too_many(self, parts: tuple[Base, Path], tmp_path: Path) -> None:
        tensors = load_file(parts[1] / "model.safetensors")
        save_file({**tensors, "extra": torch.ones(2)}, parts[1] / "model.safetensors")
        assert "1 weights have no place in the model, e.g. extra" in self.refused(parts, tmp_path)

    def test_a_weight_of_another_shape(self, parts: tuple[Base, Path], tmp_path: Path) -> None:
        tensors = load_file(parts[1] / "model.safetensors")
        save_file({**tensors, "model.norm.weight": torch.ones(1)}, parts[1] / "model.safetensors")
        self.refused(parts, tmp_path)

    @pytest.mark.parametrize("kind_of_number", [torch.int64, torch.bool])
    def test_whole_numbers(self, kind_of_number: torch.dtype, parts: tuple[Base, Path], tmp_path: Path) -> None:
        tensors = load_file(parts[1] / "model.safetensors")
        norm = {"model.norm.weight": tensors["model.norm.weight"].to(kind_of_number)}
        save_file({**tensors, **norm}, parts[1] / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(UserError, match="1 weights are whole numbers"):
            open_merged(parts[1], parts[0])
        assert "1 weights are whole numbers, e.g. model.norm.weight" in self.refused(parts, tmp_path)

    def test_a_model_of_another_size(self, kind: str, parts: tuple[Base, Path], base: Base, tmp_path: Path) -> None:
        other = made(kind, base, tmp_path / "other", intermediate_size=16)
        other.model().save_pretrained(parts[1])
        assert "of another shape than the base's, e.g. model.layers.0.mlp." in self.refused(parts, tmp_path)


def test_the_best_epoch_of_a_mixture_of_experts_is_kept(base: Base, tmp_path: Path) -> None:
    model = made("mixtral", base, tmp_path / "base")
    options = {"epochs": 5, "learning_rate": 0.03, "load_best_model_at_end": True}
    source = trained(model, Full(), "full", tmp_path / "seed", tmp_path / "work", **options)
    curve = pd.read_csv(source / "curve.csv")
    losses = curve[curve["split"] == "validation"]["loss"].tolist()
    assert min(losses) < losses[-1] - 0.1
    with torch.inference_mode():
        rows = encoded(model, CONTRARY).rows
        logits, targets = logits_of(load_seed(Full(), source, model), TASK.inputs(rows)), TASK.objective.targets(rows)
        found = TASK.objective.target_losses(logits, targets).sum() / TASK.objective.target_mask(targets).sum()
    assert float(found) == pytest.approx(min(losses), rel=1e-4)


class TestWeightsThatDoNotMatch:
    """Whatever loads them, missing and unexpected weights are refused by name."""

    @pytest.fixture
    def model(self, base: Base, tmp_path: Path) -> Base:
        return made("mixtral", base, tmp_path / "base", num_hidden_layers=1)

    def without(self, file: Path, name: str) -> None:
        """Take a weight out of a file, and put one there that no model has."""
        weights = load_file(file)
        weights["model.layers.0.stranger.weight"] = weights.pop(name).clone()
        save_file(weights, file, {"format": "pt"})

    def spoilt(self, model: Base, folder: Path) -> Path:
        plain: Any = model.model()
        plain.save_pretrained(folder)
        write_json(folder / MERGED, {"base_digest": model.digest})
        self.without(folder / "model.safetensors", "model.norm.weight")
        return folder

    TOLD = (
        "not what was trained: 1 weights of the model are missing, e.g. model.norm.weight; 1 weights have no place in "
        "the model, e.g. model.layers.0.stranger.weight. Run the stage that wrote it again"
    )

    def test_of_a_full_checkpoint(self, model: Base, tmp_path: Path) -> None:
        folder = self.spoilt(model, tmp_path / "full")
        for load in (lambda: Full().load(model.model(), folder), lambda: open_merged(folder, model)):
            with pytest.raises(UserError) as caught:
                load()
            assert str(caught.value) == f"{folder}: {self.TOLD}"

    def test_of_what_is_mixed(self, model: Base, tmp_path: Path) -> None:
        with pytest.raises(UserError) as caught:
            mix(Average(), [self.spoilt(model, tmp_path / "a")], [1.0], model, tmp_path / "m", 0)
        assert str(caught.value) == f"{tmp_path / 'a'}: {self.TOLD}"

    @pytest.mark.parametrize("method", [Full(), Lora(rank=2, alpha=4.0, target_modules=["q_proj"])])
    def test_of_a_checkpoint_that_training_goes_on_from(self, model: Base, method: Method, tmp_path: Path) -> None:
        with counted_calls(KnowledgeTrainer, "compute_loss", 3, RuntimeError("killed")), pytest.raises(RuntimeError):
            trained(model, method, "x", tmp_path / "seed", tmp_path / "work", save_steps=2)
        folder = tmp_path / "work" / "checkpoints" / "checkpoint-2"
        file = next(folder.glob("*model.safetensors"))
        with safe_open(file, framework="pt") as opened:
            name = sorted(opened.keys())[-1]
        self.without(file, name)
        with pytest.raises(UserError, match=f"not what was trained: 1 weights of the model are missing, e.g. {name};"):
            trained(model, method, "x", tmp_path / "seed", tmp_path / "work", save_steps=2)

    def test_of_an_adapter(self, model: Base, tmp_path: Path) -> None:
        method = Lora(rank=2, alpha=4.0, target_modules=["q_proj"])
        source = trained(model, method, "lora", tmp_path / "seed", tmp_path / "work")
        name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
        self.without(source / "adapter_model.safetensors", name)
        with pytest.raises(UserError, match=f"missing, e.g. {name}; 1 weights have no place in the model, e.g. model"):
            load_seed(method, source, model)


def test_a_seed_that_is_not_what_was_trained_does_not_merge(base: Base, tmp_path: Path) -> None:
    model = made("mixtral", base, tmp_path / "base", num_hidden_layers=1)
    source = trained(model, Full(), "full", tmp_path / "seed", tmp_path / "work")
    model.model().save_pretrained(source)  # the base's own weights, under the right names
    found = merge_seed(Full(), source, model, tmp_path / "merged", fact_rows().tail(4), 4)
    assert found["largest"] == 0
    with pytest.raises(UserError, match=r"^x: the model on disk computes logits that differ from those of the trained"):
        require_parity(found, 0.001, "x")


def test_a_seed_without_a_record_does_not_merge(base: Base, tmp_path: Path) -> None:
    model = made("gpt2", base, tmp_path / "base", n_layer=1)
    source = trained(model, Full(), "full", tmp_path / "seed", tmp_path / "work")
    (source / RECORD).unlink()
    with pytest.raises(UserError, match=rf"^{source / RECORD}: missing; run the train stage again"):
        merge_seed(Full(), source, model, tmp_path / "merged", fact_rows().tail(4), 4)


KINDS_LEFT_OUT = [("gpt_oss", True), ("qwen2_moe", True), ("mixtral", False), ("llama", False)]


@pytest.mark.parametrize(("kind", "told"), KINDS_LEFT_OUT)
def test_all_linear_says_when_it_leaves_experts_out(
    kind: str, told: bool, base: Base, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = made(kind, base, tmp_path / "base", num_hidden_layers=1)
    attached = Lora(rank=2, alpha=4.0).attach(model.model())
    remedy = "target_parameters: [experts.down_proj, experts.gate_up_proj]\n"
    assert (remedy in capsys.readouterr().err) == told
    trains = any(".experts." in name and p.requires_grad for name, p in attached.named_parameters())
    assert trains == (kind == "mixtral")


@pytest.mark.parametrize("kind", ["mixtral", "llama"])
@pytest.mark.parametrize("name", ["full", "lora"])
def test_in_bfloat16_it_is_what_was_trained_but_for_rounding(kind: str, name: str, base: Base, tmp_path: Path) -> None:
    exact = made(kind, base, tmp_path / "base", num_hidden_layers=1)
    model = replace(exact, compute=replace(COMPUTE, dtype="bfloat16"))
    method: Method = Full() if name == "full" else Lora(rank=2, alpha=4.0)
    source = trained(model, method, name, tmp_path / "seed", tmp_path / "work")
    found = merge_seed(method, source, model, tmp_path / "merged", fact_rows().tail(4), 4)
    require_parity(found, 1e-3, "x")
    assert found["largest"] < 1e-4  # folding is in float32
    assert found["trained"] == 0  # the seed itself, put back
    assert found["rounded"] < 0.5  # the checkpoint is in bfloat16
    assert (found["rounded"] == 0) == (name == "full")
    model.model().save_pretrained(source) if name == "full" else save_file(
        {key: 0 * tensor for key, tensor in load_file(source / ADAPTER_WEIGHTS).items()}, source / ADAPTER_WEIGHTS
    )
    with pytest.raises(UserError, match="the trained model in memory"):  # what was lost is more than rounding
        require_parity(merge_seed(method, source, model, tmp_path / "lost", fact_rows().tail(4), 4), 1e-3, "x")


def test_a_full_checkpoint_may_lie_in_several_files(base: Base, tmp_path: Path) -> None:
    model = made("mixtral", base, tmp_path / "base")
    changed: Any = model.model()
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter += 1
    changed.save_pretrained(tmp_path / "shards", max_shard_size="100KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert equal_states(state(Full().load(model.model(), tmp_path / "shards")), state(changed))
