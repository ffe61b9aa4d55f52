"""What a sparse change promises: it trains what masked gradients train, and touches nothing else."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.unit.methods.fish.tuner.models import (
    IDS,
    Picture,
    attach,
    bert,
    dense_gradients,
    gpt2,
    llama,
    logits_of,
    loss_of,
    plain_state,
    some_entries,
    spread,
)

MODELS = {
    "llama": llama,
    "tied": lambda: llama(tied=True),
    "untied": lambda: llama(tied=False),
    "biases": lambda: llama(attention_bias=True, mlp_bias=True),
    "bert": bert,
    "gpt2": gpt2,
    "picture": Picture,
}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def with_head(model):
    return {"task_type": "SEQ_CLS"} if "Classification" in type(model).__name__ else {}


def adam(model, **options):
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, **options)


def train(model, steps=3, **options):
    optimizer = adam(model, **options)
    for _ in range(steps):
        loss_of(model).backward()
        optimizer.step()
        optimizer.zero_grad()


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


@every_model
def test_attached_computes_what_the_base_computes_bit_for_bit(make):
    before = logits_of(make().requires_grad_(False))  # torch's attention takes another way where weights need gradients
    model = make()
    attached = attach(model, some_entries(model), **with_head(model))
    assert torch.equal(logits_of(attached), before)


@every_model
def test_gradients_are_the_dense_ones_at_the_entries(make):
    model = make()
    mask = some_entries(model)
    dense = dense_gradients(model, mask)
    attached = attach(model, mask, **with_head(model))
    loss_of(attached).backward()
    found = spread(attached, "gradients")
    assert found.keys() == mask.keys()
    for name, gradient in found.items():
        assert torch.allclose(gradient, dense[name], rtol=1e-4, atol=1e-6), name


@every_model
def test_trains_what_masked_dense_gradients_train(make):
    """Sung et al. multiply dense gradients by the mask; without weight decay the same steps are taken."""
    dense, model = make(), make()
    head = [n for n, _ in model.named_parameters() if n.startswith(("score", "classifier"))]
    mask = some_entries(model)
    # a bias of keys has no gradient but rounding, which AdamW would make whole steps of
    mask = {name: indices[gradient.abs() > 1e-7] for (name, indices), gradient in
            zip(mask.items(), dense_gradients(model, mask).values(), strict=True)}  # fmt: skip
    attached = attach(model, mask, **with_head(model))
    sparse_optimizer, dense_optimizer = adam(attached, weight_decay=0.0), adam(dense, weight_decay=0.0)
    for _ in range(4):
        loss_of(attached).backward()
        loss_of(dense).backward()
        for name, parameter in dense.named_parameters():
            if name not in head:
                keep = torch.zeros(parameter.numel()).index_fill_(0, mask[name], 1.0)
                parameter.grad.mul_(keep.view_as(parameter))
        for optimizer in (sparse_optimizer, dense_optimizer):
            optimizer.step()
            optimizer.zero_grad()
        assert torch.allclose(logits_of(attached), logits_of(dense), atol=1e-5)
    merged = attached.merge_and_unload()
    for (name, one), (_, other) in zip(merged.named_parameters(), dense.named_parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6), name


@every_model
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "autocast"])
@pytest.mark.parametrize("steps", ["adam", "adam with decay", "sgd with momentum"])
def test_entries_outside_the_mask_stay_bit_for_bit(make, dtype, steps):
    model = make().to(torch.bfloat16 if dtype == "bfloat16" else torch.float32)
    if isinstance(model, Picture) and dtype == "bfloat16":
        pytest.skip("its input is float32")
    mask = some_entries(model)
    before = plain_state(model)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "autocast"):
        attached = attach(model, mask, **with_head(model))
        assert all(p.dtype == torch.float32 for n, p in attached.named_parameters() if "fish_" in n)
        if steps == "sgd with momentum":
            trained = [p for p in attached.parameters() if p.requires_grad]
            optimizer = torch.optim.SGD(trained, lr=0.1, momentum=0.9)
        else:
            optimizer = adam(attached, weight_decay=0.1 if "decay" in steps else 0.0)
        for step in range(4):
            loss_of(attached, 0.5).backward()
            if step % 2:  # two batches per step
                torch.nn.utils.clip_grad_norm_([p for p in attached.parameters() if p.requires_grad], 0.1)
                optimizer.step()
                optimizer.zero_grad()
    untouched = {name: tensor for name, tensor in plain_state(attached).items() if name in before}
    assert_equal({n: before[n] for n in untouched}, untouched)
    merged = plain_state(attached.merge_and_unload())
    moved = 0
    for name, indices in mask.items():
        same = torch.ones(before[name].numel(), dtype=torch.bool).index_fill_(0, indices, False)
        assert torch.equal(merged[name].flatten()[same], before[name].flatten()[same]), name
        moved += int((merged[name].flatten() != before[name].flatten()).sum())
    assert moved > 0


def test_weight_decay_pulls_toward_the_base():
    model = llama()
    attached = attach(model, some_entries(model), init_weights=False)
    before = spread(attached)
    optimizer = adam(attached, weight_decay=0.5)
    (0.0 * loss_of(attached)).backward()
    optimizer.step()
    for name, values in spread(attached).items():
        assert torch.allclose(values, before[name] * (1 - 1e-2 * 0.5)), name


@every_model
def test_merging_computes_the_same_and_is_undone_bit_for_bit(make):
    model = make()
    before = plain_state(model)
    attached = attach(model, some_entries(model), init_weights=False, **with_head(model))
    expected, base = logits_of(attached), logits_of(make().requires_grad_(False))
    assert not torch.allclose(expected, base)
    attached.merge_adapter(safe_merge=True)
    assert torch.equal(logits_of(attached), expected)
    attached.unmerge_adapter()
    after = plain_state(attached)
    shared = before.keys() & after.keys()  # a classifier's head has another name by now
    assert_equal({name: before[name] for name in shared}, {name: after[name] for name in shared})
    assert torch.equal(logits_of(attached), expected)
    with attached.disable_adapter():
        assert torch.equal(logits_of(attached), base)
    attached.merge_adapter()
    with attached.disable_adapter():  # as other adapters of PEFT: merged ones are unmerged
        assert torch.equal(logits_of(attached), base)
    assert torch.equal(logits_of(attached), expected)
    assert torch.equal(logits_of(attached.merge_and_unload()), expected)


@every_model
def test_unload_gives_the_plain_model_back(make):
    model = make()
    classes = [type(module) for module in model.modules()]
    attached = attach(model, some_entries(model), init_weights=False)
    plain = attached.unload()
    assert [type(module) for module in plain.modules()] == classes
    assert_equal(plain_state(plain), plain_state(make()))


def test_safe_merge_refuses_what_is_not_finite_and_writes_nothing_of_the_module():
    model = llama()
    name = "model.layers.0.mlp.up_proj.weight"
    attached = attach(model, {name: torch.tensor([1, 2, 9])})
    before = plain_state(attached)
    next(p for p in attached.parameters() if p.requires_grad).data[1] = float("nan")
    with pytest.raises(ValueError, match="not finite: weight"):
        attached.merge_adapter(safe_merge=True)
    assert_equal(plain_state(attached), before)


def test_a_tied_parameter_is_trained_by_both_uses_and_stays_tied():
    model = llama(tied=True)
    name = "model.embed_tokens.weight"
    mask = {name: some_entries(model, 0.5)[name]}
    expected = dense_gradients(model, mask)[name]
    only_lookup = copy.deepcopy(model).requires_grad_(True)
    only_lookup.lm_head.weight = torch.nn.Parameter(only_lookup.lm_head.weight.detach().clone())
    loss_of(only_lookup).backward()
    assert not torch.allclose(only_lookup.model.embed_tokens.weight.grad.flatten()[mask[name]], expected)
    attached = attach(model, mask)
    assert sum(p.numel() for p in attached.parameters() if p.requires_grad) == len(mask[name])
    loss_of(attached).backward()
    assert torch.allclose(spread(attached, "gradients")[name], expected, rtol=1e-4, atol=1e-6)
    train(attached)
    logits = logits_of(attached)
    merged = attached.merge_and_unload()
    assert merged.lm_head.weight is merged.model.embed_tokens.weight
    assert torch.equal(logits_of(merged), logits)


def test_a_padding_row_gets_no_gradient():
    model = llama(tied=False)
    name = "model.embed_tokens.weight"
    attached = attach(model, {name: torch.arange(4 * 16)})
    loss_of(attached).backward()
    gradient = spread(attached, "gradients")[name].view(4, 16)
    assert (IDS == 0).any() and not gradient[0].any() and gradient[1].any()


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_gives_the_same_gradients(reentrant):
    found = []
    for checkpointed in (False, True):
        model = llama().train()
        attached = attach(model, some_entries(model), init_weights=False)
        if checkpointed:
            attached.enable_input_require_grads()
            attached.activation_checkpointing_enable({"use_reentrant": reentrant})
        loss_of(attached).backward()
        found.append(spread(attached, "gradients"))
    for name, gradient in found[0].items():
        assert torch.allclose(gradient, found[1][name], atol=1e-7), name


def test_under_autocast_the_attached_model_computes_what_the_merged_one_does():
    model = llama(attention_bias=True)
    attached = attach(model, some_entries(model), init_weights=False)
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(attached)
        loss.backward()
        expected = logits_of(attached)
        assert all(g.dtype == torch.float32 and g.isfinite().all() for g in spread(attached, "gradients").values())
        assert torch.equal(logits_of(attached.merge_and_unload()), expected)


@pytest.mark.parametrize("model_dtype", [torch.float16, torch.bfloat16])
def test_values_in_float32_change_weights_of_16_bits_with_one_rounding(model_dtype):
    model = llama().to(model_dtype)
    name = "model.layers.1.self_attn.q_proj.weight"
    attached = attach(model, {name: torch.tensor([0, 17])})
    values = next(p for p in attached.parameters() if p.requires_grad)
    values.data = torch.tensor([1.0000001, -3e-5])
    weight = plain_state(attached)[name].flatten()[[0, 17]]
    merged = plain_state(attached.merge_and_unload())[name].flatten()[[0, 17]]
    assert torch.equal(merged, (weight.float() + values.detach()).to(model_dtype))


def test_an_interrupted_operation_leaves_the_weight_as_it_was():
    model = llama()
    name = "model.layers.0.mlp.up_proj.weight"
    attached = attach(model, {name: torch.arange(20)}, init_weights=False)
    before = plain_state(attached)
    with pytest.raises(RuntimeError):
        attached.base_model.model.model.layers[0].mlp.up_proj(torch.ones(2, 3))
    assert_equal(plain_state(attached), before)
