"""Every type that PEFT has is trained, saved, loaded and folded here, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftType

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.methods.peft import COMPOSED, NOT_RESUMABLE, REFUSED, REFUSED_OPTIONS, REFUSED_STARTS, Peft
from knowtune.models.forward import forward
from knowtune.models.heads import head_outputs
from knowtune.training.trainer import KnowledgeTrainer
from tests.unit.helpers import counted_calls, equal_states, fact_rows, review_rows, state, train

IDS = [[1, 5, 9, 30, 200], [7, 8]]
TYPES = sorted(str(member.value).lower() for member in PeftType)
PROMPT = {"num_virtual_tokens": 4}
# What a type needs on a model this small.
OPTIONS: dict[str, dict[str, Any]] = {
    "adalora": {"init_r": 4, "target_r": 2, "tinit": 0, "tfinal": 0},
    "adaption_prompt": {"adapter_len": 4, "adapter_layers": 2},
    "c3a": {"block_size": 32},
    "cartridge": PROMPT,
    "cpt": {"cpt_token_ids": [5, 6, 7, 8], "cpt_mask": [1, 1, 1, 1], "cpt_tokens_type_mask": [1, 2, 3, 4]},
    "frod": {"progressbar": False},
    "p_tuning": PROMPT,
    "prefix_tuning": PROMPT,
    "prompt_tuning": PROMPT,
    "road": {"group_size": 32},
    "shira": {"r": 8},
    "trainable_tokens": {"token_indices": [267, 269, 272]},
    "vblora": {"vector_length": 32},
    "waveft": {"n_frequency": 1000},
}
# What libraries warn of where nothing is wrong; a warning is an error in tests, so each is named.
WARNINGS = {
    "beft": "Detected that the base layer has no bias term",  # true of Llama, and why beft is a composed artefact
    "boft": "(Failed to load the CUDA extension|Setting boft_n_butterfly_factor to 1)",  # PEFT goes on without it
    "frod": "Sparse invariant checks are implicitly disabled",  # torch, of PEFT's sparse tensors
    "ln_tuning": "Unsupported layer type '<class 'transformers.*RMSNorm'>' encountered",  # PEFT, of every Llama
}


def with_warnings(name: str) -> Any:
    marks = [pytest.mark.filterwarnings(f"ignore:{WARNINGS[name]}:UserWarning")] if name in WARNINGS else []
    return pytest.param(name, marks=marks)


def made(name: str, **options: Any) -> Peft:
    return Peft(type=name, **{**OPTIONS.get(name, {}), **options})


def refused(method: Peft) -> str:
    with pytest.raises(UserError) as caught:
        method.attach(torch.nn.Linear(1, 1))  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize("name", [with_warnings(name) for name in TYPES if name not in REFUSED])
def test_every_type_trains_saves_loads_and_folds(
    name: str, base: Base, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(work / "extensions"))  # boft tries to build one
    method = made(name)
    assert method.problems("run") == []
    fitted = train(base, method, fact_rows().head(4), work, batch_size=2, learning_rate=0.02)
    assert fitted.num_steps == 2
    for place in ("saved", "again"):
        method.save(fitted.model, work / place)
    files = {path.name: path.read_bytes() for path in (work / "saved").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (work / "again").iterdir()}
    assert set(files) == {"adapter_config.json", "adapter_model.safetensors"}
    config = json.loads(files["adapter_config.json"])
    assert config["base_model_name_or_path"] is None
    assert str(base.folder) not in files["adapter_config.json"].decode()
    with torch.inference_mode():
        pristine, trained = forward(base.model(), IDS), forward(fitted.model, IDS)
        assert trained.shape == pristine.shape
        assert (trained - pristine).abs().max() > 1e-5
        torch.manual_seed(99)
        loaded = method.load(base.model(), work / "saved")
        assert torch.equal(forward(loaded, IDS), trained)
        if not method.folds:
            with pytest.raises(UserError) as caught:
                method.fold(loaded)
            assert str(caught.value) == (
                f"PEFT's {name} cannot be folded into plain weights; it stays a composed artefact"
            )
            return
        folded = method.fold(loaded)
        assert type(folded).__name__ == "LlamaForCausalLM"
        plain = base.model().state_dict()
        assert {k: v.shape for k, v in folded.state_dict().items()} == {k: v.shape for k, v in plain.items()}
        assert (forward(folded, IDS) - trained).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["ia3", "vera", "oft", "randlora"])
def test_a_killed_run_resumes_to_the_same_bits(name: str, base: Base, work: Path) -> None:
    method = made(name)
    assert method.resumes
    options = {"batch_size": 2, "save_steps": 1}
    whole = train(base, method, fact_rows().head(6), work / "whole", **options)
    with (
        counted_calls(KnowledgeTrainer, "compute_loss", 3, RuntimeError("killed")),
        pytest.raises(RuntimeError, match="killed"),
    ):
        train(base, method, fact_rows().head(6), work / "parts", **options)
    parts = train(base, method, fact_rows().head(6), work / "parts", **options)
    assert equal_states(state(parts.model), state(whole.model))


@pytest.mark.parametrize("name", sorted(NOT_RESUMABLE - set(REFUSED)))
def test_what_cannot_resume_leaves_no_checkpoint(name: str, base: Base, work: Path) -> None:
    method = made(name)
    assert not method.resumes
    train(base, method, fact_rows().head(4), work, batch_size=2, save_steps=1)
    assert list((work / "checkpoints").glob("checkpoint-*")) == []


def test_what_is_said_of_types_is_said_of_types_that_there_are() -> None:
    assert set(REFUSED) | COMPOSED | NOT_RESUMABLE | set(REFUSED_OPTIONS) | set(OPTIONS) <= set(TYPES)
    assert not set(REFUSED) & COMPOSED
    assert len(TYPES) - len(REFUSED) >= 39


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_refused_type_is_told_why(name: str) -> None:
    allowed = ", ".join(n for n in TYPES if n not in REFUSED)
    problem = f"run.type: got {name!r}: {REFUSED[name]}; allowed: {allowed}"
    assert [str(p) for p in made(name).problems("run")] == [problem]
    assert refused(made(name)) == f"method peft: 1 problem\n  {problem}"


def test_an_unknown_type_gets_the_nearest() -> None:
    found = made("verra").problems("runs.a")
    assert [(p.where, p.got, p.nearest) for p in found] == [("runs.a.type", "'verra'", "vera")]
    assert "lora" in found[0].allowed.split(", ")
    assert "poly" not in found[0].allowed.split(", ")


@pytest.mark.parametrize(("name", "option"), [(n, o) for n, found in REFUSED_OPTIONS.items() for o in found])
def test_a_refused_option_is_told_why(name: str, option: str) -> None:
    found = made(name, **{option: "x"}).problems("run")
    assert (
        f"run.options.{option}: got 'x': {REFUSED_OPTIONS[name][option]}; "
        "allowed: what a config alone can do; leave it out"
    ) in map(str, found)


@pytest.mark.parametrize("start", sorted(REFUSED_STARTS))
def test_a_refused_start_is_told_why(start: str) -> None:
    found = made("lora", init_lora_weights=start).problems("run")
    assert str(found[0]) == (
        f"run.options.init_lora_weights: got {start!r}: {REFUSED_STARTS[start]}; "
        "allowed: what a config alone can do; leave it out"
    )


def test_a_start_that_follows_a_global_seed_is_refused() -> None:
    found = made("lora", init_lora_weights="pissa_niter_4").problems("run")
    assert found[0].got == "'pissa_niter_4': its reload depends on a global seed"


@pytest.mark.parametrize("start", [True, "gaussian", "pissa", "olora", "orthogonal"])
def test_an_allowed_start_loads_and_folds(start: Any, base: Base, work: Path) -> None:
    method = made("lora", r=4, init_lora_weights=start)
    assert method.problems("run") == []
    fitted = train(base, method, fact_rows().head(2), work, batch_size=2)
    method.save(fitted.model, work / "saved")
    with torch.inference_mode():
        trained = forward(fitted.model, IDS)
        torch.manual_seed(5)
        loaded = method.load(base.model(), work / "saved")
        assert (forward(loaded, IDS) - trained).abs().max() < 1e-5
        assert (forward(method.fold(loaded), IDS) - trained).abs().max() < 1e-4


def test_an_unknown_option_gets_the_nearest() -> None:
    assert [(p.where, p.nearest) for p in made("lora", lora_alfa=3).problems("runs.a")] == [
        ("runs.a.options.lora_alfa", "lora_alpha")
    ]


@pytest.mark.parametrize(
    "name", ["adaption_prompt", "trainable_tokens", "prompt_tuning", "p_tuning", "prefix_tuning", "cartridge", "cpt"]
)
def test_a_type_without_what_it_needs_is_the_users_error(name: str, base: Base) -> None:
    with pytest.raises(UserError):
        Peft(type=name).attach(base.model())


@pytest.mark.parametrize("name", ["c3a", "vblora", "shira", "waveft"])
def test_widths_that_do_not_fit_are_the_users_error(name: str, base: Base) -> None:
    with pytest.raises(UserError):
        Peft(type=name).attach(base.model())


def test_the_model_is_left_alone_when_an_option_is_wrong(base: Base) -> None:
    model = base.model()
    with pytest.raises(UserError, match="target_modules"):
        made("vera", target_modulez="all-linear").attach(model)
    assert equal_states(state(model), state(base.model()))


@pytest.mark.parametrize("name", [with_warnings(name) for name in TYPES if name not in REFUSED])
def test_every_type_trains_a_classifiers_head_or_is_refused(
    name: str, decoder: Base, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(work / "extensions"))
    if name in ("adaption_prompt", "trainable_tokens"):
        with pytest.raises(UserError) as caught:
            made(name).attach(decoder.model())
        message = f"PEFT's {name} neither trains nor saves a classifier's head; use another method"
        assert str(caught.value) == message
        return
    trained = [n for n, p in made(name).attach(decoder.model()).named_parameters() if p.requires_grad]
    assert any("score.modules_to_save" in n for n in trained)


@pytest.mark.parametrize("name", ["ia3", "prefix_tuning", "vera"])
@pytest.mark.parametrize("backbone", ["encoder", "decoder"])
def test_a_classifier_is_trained_saved_loaded_and_folded(
    name: str, backbone: str, work: Path, request: pytest.FixtureRequest
) -> None:
    base, method = request.getfixturevalue(backbone), made(name)
    rows = base.task.encode(base.tokenizer(), review_rows())
    fitted = train(base, method, review_rows().head(8), work, batch_size=4, learning_rate=0.02)
    trained = head_outputs(fitted.model, rows, 8, "x")
    method.save(fitted.model, work / "saved")
    torch.manual_seed(99)  # another new head than that which was trained
    loaded = method.load(base.model(), work / "saved")
    assert torch.allclose(head_outputs(loaded, rows, 8, "x"), trained, atol=1e-6)
    if method.folds:
        assert torch.allclose(head_outputs(method.fold(loaded), rows, 8, "x"), trained, atol=1e-4)


@pytest.mark.parametrize("name", ["adaption_prompt", "ln_tuning", "miss", "shadow", "trainable_tokens"])
def test_what_a_backbone_cannot_have_is_the_users_error(name: str, encoder: Base) -> None:
    with pytest.raises(UserError, match="PEFT cannot attach"):
        made(name).attach(encoder.model())
