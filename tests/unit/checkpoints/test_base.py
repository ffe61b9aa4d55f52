from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from knowtune.checkpoints.base import Base, load_model, require_same_base
from knowtune.checkpoints.cards import CARD, make_card
from knowtune.common.errors import UserError
from knowtune.common.files import file_digest, text_digest, write_json
from knowtune.models.compute import Compute
from knowtune.models.load import as_pretrained
from tests.unit.helpers import COMPUTE, REVIEWS, TASK, equal_states, state


@pytest.fixture
def copy(base: Base, tmp_path: Path) -> Path:
    shutil.copytree(base.folder, tmp_path / "copy")
    return tmp_path / "copy"


class TestCard:
    def test_what_it_holds(self, base: Base) -> None:
        card = make_card(base.folder, "tiny")
        assert card["identity"] == "tiny"
        assert (card["context"], card["architecture"]) == (64, "LlamaForCausalLM")
        assert set(card["files"]) == {
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "model.safetensors",
        }
        assert card["files"]["model.safetensors"] == file_digest(base.folder / "model.safetensors")
        assert card["digest"] == text_digest(card["files"])
        assert str(base.folder) not in json.dumps(card)

    def test_the_digest_is_of_the_files_not_of_the_name(self, base: Base, copy: Path) -> None:
        assert make_card(copy, "other")["digest"] == base.digest

    @pytest.mark.parametrize(
        "name",
        [
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "added_tokens.json",
            "vocab.json",
            "vocab.txt",
            "merges.txt",
            "tokenizer.model",
            "spiece.model",
            "chat_template.jinja",
            "additional_chat_templates/tool_use.jinja",
        ],
    )
    def test_every_file_that_decides_is_in_the_digest(self, base: Base, copy: Path, name: str) -> None:
        path = copy / name
        if not path.is_file():
            path.parent.mkdir(exist_ok=True)
            path.write_text("{}")
        before = make_card(copy, "tiny")
        assert name in before["files"]
        path.write_bytes(path.read_bytes() + b" ")
        assert make_card(copy, "tiny")["digest"] not in (before["digest"], base.digest)

    def test_so_are_weights_and_what_names_their_files(self, base: Base, copy: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(copy / "model.safetensors")
        tensors["model.norm.weight"][0] += 1
        save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
        assert make_card(copy, "tiny")["digest"] != base.digest
        write_json(copy / "model.safetensors.index.json", {"weight_map": {"model.norm.weight": "model.safetensors"}})
        assert "model.safetensors.index.json" in make_card(copy, "tiny")["files"]

    def test_a_card_beside_changes_nothing(self, base: Base, copy: Path) -> None:
        (copy / "README.md").write_text("more")
        assert make_card(copy, "tiny")["digest"] == base.digest

    def test_no_model(self, tmp_path: Path) -> None:
        with pytest.raises(UserError) as caught:
            make_card(tmp_path, "x")
        assert str(caught.value) == (
            f"{tmp_path}: not a model folder (no config.json); give a folder in transformers layout"
        )

    def test_no_weights(self, copy: Path) -> None:
        (copy / "model.safetensors").unlink()
        with pytest.raises(UserError) as caught:
            make_card(copy, "x")
        assert str(caught.value) == (
            f"{copy}: no weights; save the model as safetensors: model.save_pretrained(folder)"
        )

    def test_pickled_weights(self, copy: Path) -> None:
        (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
        with pytest.raises(UserError) as caught:
            make_card(copy, "x")
        assert str(caught.value) == (
            f"{copy}: only pickled weights (pytorch_model.bin), which can run code; "
            "save the model as safetensors: model.save_pretrained(folder)"
        )

    def test_no_tokenizer(self, copy: Path) -> None:
        (copy / "tokenizer.json").unlink()
        with pytest.raises(UserError) as caught:
            make_card(copy, "x")
        assert str(caught.value) == f"{copy}: no tokenizer.json; save the tokenizer: tokenizer.save_pretrained(folder)"


class TestRefused:
    def refused(self, folder: Path) -> str:
        with pytest.raises(UserError) as caught:
            make_card(folder, "x")
        return str(caught.value)

    def test_an_adapter(self, copy: Path) -> None:
        (copy / "adapter_config.json").write_text("{}")
        assert self.refused(copy) == (
            f"{copy}: an adapter, not a model; give the model it was made on, or merge it first"
        )

    def test_code_of_its_own(self, copy: Path) -> None:
        config = json.loads((copy / "config.json").read_text())
        write_json(copy / "config.json", {**config, "auto_map": {"AutoModelForCausalLM": "modeling.Own"}})
        assert self.refused(copy) == (
            f"{copy}: the model needs code of its own (auto_map in config.json), and knowtune runs no code that comes "
            "with a model; use an architecture that transformers has"
        )

    @pytest.mark.parametrize("text", ["", "{", '{"a": 1,}', "\ud800", "[" * 100_000])
    def test_a_broken_config(self, copy: Path, text: str) -> None:
        (copy / "config.json").write_text(text, errors="surrogatepass")
        assert self.refused(copy).startswith(f"{copy / 'config.json'}: not readable as JSON (")

    @pytest.mark.parametrize(
        ("said", "expected"),
        [
            ([], "got a list; allowed: a JSON object, as transformers writes it"),
            ("llama", "got a str; allowed: a JSON object, as transformers writes it"),
            (
                {"hidden_size": "wide"},
                "transformers cannot read it (Validation error for field 'hidden_size': TypeError",
            ),
            ({"num_hidden_layers": [2]}, "transformers cannot read it ("),
            ({"model_type": "no-such-model"}, "transformers cannot read it (The checkpoint you are trying to load has"),
            ({"model_type": None}, "transformers cannot read it ("),
            ({"model_type": 3}, "transformers cannot read it ("),
            ({"rope_parameters": "fast"}, "transformers cannot read it ("),
        ],
    )
    def test_a_config_of_another_shape(self, copy: Path, said: Any, expected: str) -> None:
        config = json.loads((copy / "config.json").read_text())
        write_json(copy / "config.json", {**config, **said} if isinstance(said, dict) else said)
        assert self.refused(copy).startswith(f"{copy / 'config.json'}: {expected}")

    @pytest.mark.parametrize("where", ["", "text_config"])
    @pytest.mark.parametrize("kind", ["gptq", "awq", "bitsandbytes", "compressed-tensors", "fp8", "mxfp4", "torchao"])
    def test_quantised_weights(self, copy: Path, kind: str, where: str) -> None:
        config, said = json.loads((copy / "config.json").read_text()), {"quantization_config": {"quant_method": kind}}
        write_json(copy / "config.json", {**config, **({where: said} if where else said)})
        key = f"{where}.quantization_config" if where else "quantization_config"
        assert self.refused(copy) == (
            f"{copy}: quantised weights ({key} in config.json: {kind}); give the checkpoint that they were made from, "
            "or dequantise them and save the model as safetensors; compute.quantize: 4bit quantises while it loads"
        )
        with pytest.raises(UserError, match="quantised weights"):
            load_model(copy, COMPUTE, TASK)

    def test_weights_of_8_bits(self, copy: Path) -> None:
        self.change(copy, lambda tensor: tensor.to(torch.float8_e4m3fn))
        assert self.refused(copy) == (
            f"{copy / 'model.safetensors'}: quantised weights (model.norm.weight is torch.float8_e4m3fn); dequantise "
            "and save them"
        )

    def change(self, folder: Path, change: Any) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        tensors["model.norm.weight"] = change(tensors["model.norm.weight"])
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_weights_that_are_not_finite(self, copy: Path, value: float, dtype: torch.dtype) -> None:
        def spoil(tensor: torch.Tensor) -> torch.Tensor:
            tensor[3] = value
            return tensor.to(dtype)

        self.change(copy, spoil)
        assert self.refused(copy) == (
            f"{copy / 'model.safetensors'}: 1 tensors hold numbers that are not finite (NaN or infinity), e.g. "
            "model.norm.weight; copy or fetch it again, or take a checkpoint from before training diverged"
        )

    @pytest.mark.parametrize("left", [0, 4, 100, -1])
    def test_truncated_weights(self, copy: Path, left: int) -> None:
        data = (copy / "model.safetensors").read_bytes()
        (copy / "model.safetensors").write_bytes(data[:left])
        assert self.refused(copy).startswith(f"{copy / 'model.safetensors'}: not readable as safetensors (")

    def test_a_shard_that_is_missing(self, copy: Path) -> None:
        index = copy / "model.safetensors.index.json"
        write_json(index, {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}})
        assert self.refused(copy) == (
            f"{copy}: 1 files of weights are missing, e.g. model-2.safetensors; copy or fetch it again"
        )
        for odd in ({}, {"weight_map": ["a"]}, {"weight_map": {"a": 1}}):
            write_json(index, odd)
            assert self.refused(copy).startswith(f"{index}: no weight_map, which names the file of every weight")

    def test_a_broken_tokenizer(self, copy: Path) -> None:
        (copy / "tokenizer.json").write_text("{}")
        assert self.refused(copy).startswith(f"{copy / 'tokenizer.json'}: not readable as a tokenizer (")

    @pytest.mark.parametrize("code", [["own.Tokenizer", None], {"AutoTokenizer": ["own.Tokenizer", None]}, "own"])
    def test_a_tokenizer_with_code_of_its_own(self, copy: Path, code: Any) -> None:
        config = json.loads((copy / "tokenizer_config.json").read_text())
        write_json(copy / "tokenizer_config.json", {**config, "auto_map": code})
        (copy / "own.py").write_text("raise SystemExit('executed')")
        assert self.refused(copy) == (
            f"{copy}: the tokenizer needs code of its own (auto_map in tokenizer_config.json), and knowtune runs no "
            "code that comes with a model; where tokenizer.json alone says what it does, take the key auto_map out"
        )

    @pytest.mark.parametrize("text", ["[]", "{", "3"])
    def test_a_tokenizer_config_of_another_shape(self, copy: Path, text: str) -> None:
        (copy / "tokenizer_config.json").write_text(text)
        assert self.refused(copy).startswith(f"{copy / 'tokenizer_config.json'}: ")

    def test_other_files_of_a_tokenizer_that_are_broken(self, copy: Path) -> None:
        config = json.loads((copy / "tokenizer_config.json").read_text())
        write_json(copy / "tokenizer_config.json", {**config, "added_tokens_decoder": {"x": 3}})
        assert self.refused(copy).startswith(f"{copy}: transformers cannot read the tokenizer (")

    @pytest.mark.parametrize("asked", ["flash_attention_2", "flash_attention_3", "flex_attention", "sage"])
    @pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
    def test_attention_that_needs_more_than_torch_is_replaced(
        self, base: Base, copy: Path, key: str, asked: str
    ) -> None:
        config = json.loads((copy / "config.json").read_text())
        write_json(copy / "config.json", {**config, key: asked})
        assert make_card(copy, "x")["notes"] == [
            f"config.json asks for {asked}; attention is computed by torch itself instead"
        ]
        model = load_model(copy, COMPUTE, TASK)
        assert model.config._attn_implementation == base.model().config._attn_implementation == "sdpa"
        assert base.card["notes"] == []

    def test_a_tokenizer_of_another_model(self, copy: Path) -> None:
        config = json.loads((copy / "config.json").read_text())
        write_json(copy / "config.json", {**config, "vocab_size": 300})
        assert self.refused(copy) == (
            f"{copy}: the tokenizer does not fit: its largest id is 319, the model has embeddings for ids up to 299; "
            "save model and tokenizer of the same checkpoint into the folder"
        )

    def test_more_embeddings_than_tokens_are_no_fault(self, copy: Path) -> None:
        config = json.loads((copy / "config.json").read_text())
        write_json(copy / "config.json", {**config, "vocab_size": 384})
        assert make_card(copy, "x")["context"] == 64

    @pytest.mark.parametrize("key", ["n_positions", "n_ctx"])
    def test_the_context_has_several_names(self, copy: Path, key: str) -> None:
        config = json.loads((copy / "config.json").read_text())
        del config["max_position_embeddings"]
        assert make_card(copy, "x")["context"] == 64
        write_json(copy / "config.json", config)
        assert make_card(copy, "x")["context"] == 2048  # as transformers has it for a Llama
        write_json(copy / "config.json", {**config, key: 48})
        assert make_card(copy, "x")["context"] == 48


class TestFromCheckpoint:
    def cut(self, folder: Path, *names: str) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        for name in names:
            del tensors[name]
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    def test_missing_weights_are_not_made_up(self, copy: Path) -> None:
        self.cut(copy, "model.layers.1.mlp.up_proj.weight", "model.layers.0.self_attn.q_proj.weight")
        with pytest.raises(UserError) as caught:
            load_model(copy, COMPUTE, TASK)
        assert str(caught.value) == (
            f"{copy}: 2 weights are missing, e.g. model.layers.0.self_attn.q_proj.weight; they would be random. Is "
            "this a checkpoint of LlamaForCausalLM?"
        )

    def test_of_a_classifier_the_head_alone_may_be_missing(self, base: Base, copy: Path) -> None:
        head = load_model(copy, COMPUTE, REVIEWS).score.weight
        assert head.shape == (2, 64)
        self.cut(copy, "model.norm.weight")
        with pytest.raises(UserError, match=r"1 weights are missing, e\.g\. model\.norm\.weight; they would be random"):
            load_model(copy, COMPUTE, REVIEWS)

    def test_a_new_head_follows_the_global_seed(self, encoder: Base) -> None:
        heads = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            heads.append(encoder.model().classifier.weight.detach())
        assert torch.equal(heads[0], heads[1])
        assert not torch.equal(heads[0], heads[2])

    def test_a_model_that_cannot_do_the_task(self, encoder: Base, tmp_path: Path) -> None:
        with pytest.raises(UserError) as caught:
            load_model(encoder.folder, COMPUTE, TASK)
        assert str(caught.value).startswith(f"{encoder.folder}: ")

    def test_an_architecture_without_such_a_head(self, copy: Path) -> None:
        write_json(copy / "config.json", {"model_type": "vit", "architectures": ["ViTModel"]})
        with pytest.raises(UserError, match="transformers cannot load it as AutoModelForCausalLM: "):
            load_model(copy, COMPUTE, TASK)

    def test_broken_weights(self, copy: Path) -> None:
        (copy / "model.safetensors").write_bytes(b"broken")
        with pytest.raises(UserError, match="transformers cannot load it as AutoModelForCausalLM: "):
            load_model(copy, COMPUTE, TASK)

    def test_weights_of_another_shape(self, copy: Path) -> None:
        config = json.loads((copy / "config.json").read_text())
        write_json(copy / "config.json", {**config, "intermediate_size": 96})
        with pytest.raises(UserError, match="transformers cannot load it as AutoModelForCausalLM: "):
            load_model(copy, COMPUTE, TASK)


class TestOpen:
    def test_a_card_apart_from_the_weights(self, base: Base, tmp_path: Path) -> None:
        write_json(tmp_path / CARD, base.card)
        opened = Base.open(tmp_path, base.folder, COMPUTE, TASK)
        assert opened.folder == base.folder
        assert opened.digest == base.digest
        assert opened.context == 64

    def test_a_file_that_is_gone(self, base: Base, tmp_path: Path, copy: Path) -> None:
        artefact = tmp_path / "card"
        write_json(artefact / CARD, base.card)
        (copy / "model.safetensors").unlink()
        with pytest.raises(UserError) as caught:
            Base.open(artefact, copy, COMPUTE, TASK)
        assert str(caught.value) == (
            f"{copy / 'model.safetensors'}: missing; the base of this workspace was made with it. "
            "Run the base stage again"
        )

    def test_a_file_of_another_size(self, base: Base, tmp_path: Path, copy: Path) -> None:
        write_json(tmp_path / "card" / CARD, base.card)
        with (copy / "tokenizer.json").open("a") as file:
            file.write(" ")
        with pytest.raises(UserError) as caught:
            Base.open(tmp_path / "card", copy, COMPUTE, TASK)
        assert str(caught.value) == (
            f"{copy / 'tokenizer.json'}: not the file that the base stage saw; run it again (dvc repro)"
        )

    def test_a_base_without_a_context_has_none(self, base: Base) -> None:
        assert Base({**base.card, "context": None}, base.folder, COMPUTE, TASK).context == 2**31


class TestModel:
    def test_it_is_fresh_and_in_evaluation_mode(self, base: Base) -> None:
        one, two = base.model(), base.model()
        assert not one.training
        assert equal_states(state(one), state(two))
        assert one.dtype == torch.float32
        with torch.no_grad():
            one.model.norm.weight.zero_()
        assert not equal_states(state(one), state(two))

    def test_another_number_format(self, base: Base) -> None:
        model = load_model(base.folder, Compute(device="cpu", dtype="bfloat16"), TASK)
        assert {p.dtype for p in model.parameters()} == {torch.bfloat16}

    def test_the_tokenizer_pads(self, base: Base, copy: Path) -> None:
        assert base.tokenizer().pad_token == "<pad>"
        config = json.loads((copy / "tokenizer_config.json").read_text())
        del config["pad_token"]
        (copy / "tokenizer_config.json").write_text(json.dumps(config))
        assert Base(base.card, copy, COMPUTE, TASK).tokenizer().pad_token == "</s>"

    def test_narrowing_the_type(self, base: Base) -> None:
        model = base.model()
        assert as_pretrained(model) is model
        with pytest.raises(TypeError, match=r"^a plain transformers model is needed, not Linear$"):
            as_pretrained(torch.nn.Linear(1, 1))


class TestCompute:
    def test_what_auto_means_without_cuda(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert Compute(device="auto").resolved_device() == "cpu"
        assert Compute(device="auto", dtype="auto").resolved_dtype() is torch.float32
        with pytest.raises(UserError) as caught:
            Compute(device="cuda").resolved_device()
        assert str(caught.value) == (
            "params.yaml: compute.device: got 'cuda', but torch sees no CUDA device; use 'auto' or 'cpu'"
        )

    def test_what_auto_means_with_cuda(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert Compute(device="auto").resolved_device() == "cuda"
        assert Compute(device="cpu", dtype="auto").resolved_dtype() is torch.float32
        for has_bfloat16, dtype in ((True, torch.bfloat16), (False, torch.float32)):
            monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has=has_bfloat16: has)
            assert Compute(device="auto", dtype="auto").resolved_dtype() is dtype

    def test_four_bits_need_cuda(self, base: Base) -> None:
        with pytest.raises(UserError) as caught:
            load_model(base.folder, Compute(device="cpu", quantize="4bit"), TASK)
        assert str(caught.value) == (
            "params.yaml: compute.quantize: got '4bit', which needs CUDA and the extra: make extra NAME=quantized"
        )


def test_an_artefact_of_another_base_is_refused(base: Base) -> None:
    require_same_base(base.digest, base, Path("adapter"))
    with pytest.raises(UserError) as caught:
        require_same_base("0123456789abcdef", base, Path("adapter"))
    assert str(caught.value) == (
        f"adapter: made on a base with digest 0123456789ab, but this base (tiny) has {base.digest[:12]}; "
        "train again, or point `base` at the other model"
    )
