"""Which entries a config means, and the error when it means none."""

from __future__ import annotations

import math

import pytest
import torch

from knowtune import FishConfig
from knowtune.common.errors import UserError
from knowtune.models.masks import write_mask
from tests.unit.methods.fish.tuner.models import Picture, attach, bert, gpt2, llama, some_entries

NORM = "model.norm.weight"
LINEAR = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


def counts(model, **options):
    attached = attach(model, **options)
    found = attached.peft_config["default"].counts
    num = sum(p.numel() for n, p in attached.named_parameters() if p.requires_grad and "fish_" in n)
    assert sum(found.values()) == num
    return found


@pytest.mark.parametrize("strategy", ["magnitude", "random"])
@pytest.mark.parametrize("make", [llama, gpt2, bert, Picture])
@pytest.mark.parametrize("num", [1, 77])
@pytest.mark.parametrize("per_parameter", [False, True])
def test_as_many_are_trained_as_asked_for(strategy, make, num, per_parameter):
    found = counts(make(), strategy=strategy, num_parameters=num, per_parameter=per_parameter)
    assert sum(found.values()) == num and all(found.values())


def test_a_budget_is_a_share_of_the_candidates():
    model = llama()
    total = sum(p.numel() for p in model.parameters())
    assert sum(counts(model, strategy="random", budget=0.1).values()) == math.ceil(0.1 * total)
    layer = 16 * 24
    assert counts(llama(), strategy="magnitude", budget=0.25, target_modules=["0.mlp.up_proj"]) == {
        "model.layers.0.mlp.up_proj.weight": layer // 4
    }


def test_magnitude_takes_the_largest_of_all_or_of_each():
    model = llama()
    every = torch.cat([p.detach().abs().flatten() for n, p in model.named_parameters() if "_proj" in n])
    attached = attach(model, strategy="magnitude", num_parameters=50, target_modules="all-linear")
    bound = every.topk(50).values.min()
    for name, count in attached.peft_config["default"].counts.items():
        assert int((llama().get_parameter(name).abs() >= bound).sum()) == count
    shares = counts(llama(), strategy="magnitude", budget=0.5, per_parameter=True)
    assert shares[NORM] == 8 and shares["model.layers.1.mlp.up_proj.weight"] == 192


def test_with_one_parameter_global_and_per_parameter_agree():
    masks = []
    for per_parameter in (False, True):
        options = {"strategy": "magnitude", "num_parameters": 20, "target_modules": ["1.mlp.down_proj"]}
        attached = attach(llama(), per_parameter=per_parameter, **options)
        masks.append(next(t for n, t in attached.named_buffers() if "fish_indices" in n))
    assert torch.equal(*masks)


def test_a_random_choice_follows_its_seed():
    def indices(seed):
        attached = attach(llama(), strategy="random", budget=0.1, seed=seed)
        return torch.cat([t for n, t in attached.named_buffers() if "fish_indices" in n])

    assert torch.equal(indices(1), indices(1)) and not torch.equal(indices(1), indices(2))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"target_modules": ["q_proj", "norm"]}, ["norm", "q_proj"]),
        ({"target_modules": r".*layers\.1\..*_proj"}, LINEAR),
        ({"target_modules": ["up_proj"], "layers_to_transform": [1]}, ["up_proj"]),
        ({"target_modules": "all-linear"}, LINEAR),
        ({"target_modules": ["mlp.up_proj", "norm"], "exclude_modules": ["model.norm"]}, ["up_proj"]),
        ({"exclude_modules": r".*proj|.*norm"}, ["embed_tokens"]),
    ],
)  # fmt: skip
def test_candidates_are_named_as_in_peft(options, expected):
    found = counts(llama(tied=True), strategy="random", budget=1.0, **options)
    assert sorted({name.split(".")[-2] for name in found} - {""}) == expected
    if "layers_to_transform" in options:
        assert list(found) == ["model.layers.1.mlp.up_proj.weight"]


def test_a_mask_from_a_file(tmp_path):
    mask = {NORM: torch.tensor([0, 3]), "lm_head.weight": torch.empty(0, dtype=torch.int64)}
    write_mask(tmp_path / "mask.safetensors", mask)
    assert counts(llama(tied=False), mask=str(tmp_path / "mask.safetensors")) == {NORM: 2}
    assert counts(llama(tied=False), mask={NORM: torch.tensor([3, 0])}) == {NORM: 2}  # order does not matter


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"model.norm.weigth": torch.tensor([0])}, "did you mean 'model.norm.weight'"),
        ({NORM: torch.tensor([16])}, "entry 16 of 'model.norm.weight', which has 16"),
        ({NORM: torch.tensor([-1])}, "flat indices from 0 on"),
        ({NORM: torch.tensor([2, 2])}, "different flat indices"),
        ({NORM: torch.ones(16, dtype=torch.bool)}, "int64"),
        ({NORM: torch.empty(0, dtype=torch.int64)}, "mask is empty"),
        ({}, "mask is empty"),
        ({"lm_head.weight": torch.tensor([0])}, "same tensor as 'model.embed_tokens.weight'"),
        ("/nowhere/mask.safetensors", "not readable"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(mask, message):
    with pytest.raises(UserError, match=message):
        attach(llama(), mask)


def test_a_head_is_never_in_a_mask():
    mask = some_entries(bert(), skip="nothing")
    with pytest.raises(UserError, match=r"classifier.*trained and saved whole"):
        attach(bert(), mask, task_type="SEQ_CLS")


def test_a_parameter_of_the_model_itself_is_refused():
    model = torch.nn.Linear(3, 3)
    with pytest.raises(UserError, match="belongs to the model itself"):
        attach(model, {"weight": torch.tensor([0])})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "which entries"),
        ({"strategy": "random"}, "neither of budget"),
        ({"strategy": "random", "budget": 0.1, "num_parameters": 3}, "both of budget"),
        ({"strategy": "fisher", "budget": 0.1}, "allowed: magnitude, random"),
        ({"strategy": "random", "budget": 1.5}, "at most 1"),
        ({"strategy": "random", "num_parameters": 0}, "1 or more"),
        ({"mask": {NORM: torch.tensor([0])}, "budget": 0.1}, "leave them out"),
        ({"strategy": "random", "budget": 0.1, "layers_to_transform": 1}, "needs target_modules"),
        ({"strategy": "random", "budget": 0.1, "layers_pattern": "layers"}, "without layers_to_transform"),
    ],
)
def test_options_that_contradict_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        FishConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_parameters": 10**9}, "allowed: 1 to"),
        ({"budget": 0.5, "target_modules": ["q_prj"]}, "did you mean q_proj"),
        ({"budget": 0.5, "target_modules": ["q_proj"], "exclude_modules": ["q_proj"]}, "leaves no parameter"),
    ],
)
def test_a_rule_that_chooses_nothing_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        attach(llama(), strategy="random", **options)


def test_quantised_and_unloaded_weights_are_refused():
    model = llama()
    model.model.norm.weight = torch.nn.Parameter(torch.zeros(16, dtype=torch.int8), requires_grad=False)
    with pytest.raises(UserError, match=r"model.norm.weight' is quantised"):
        attach(model, {NORM: torch.tensor([0])})
    with pytest.raises(UserError, match="quantised"):
        attach(model, strategy="random", budget=0.1)
    with torch.device("meta"):
        model = llama()
    with pytest.raises(UserError, match="meta device"):
        attach(model, strategy="random", budget=0.1)


def test_a_config_can_be_used_again():
    config = FishConfig(strategy="magnitude", budget=0.1, target_modules=["q_proj", "embed_tokens"])
    from peft import get_peft_model

    first = get_peft_model(llama(), config).peft_config["default"].counts
    assert get_peft_model(llama(seed=1), config).peft_config["default"].counts.keys() == first.keys()
