"""What interweaving must compute, with every inner method."""

from __future__ import annotations

import copy

import pytest
import torch

from knowtune.methods.imsm.tuner.gates import read_gates
from knowtune.methods.peft_warnings import quiet_peft

from .models import (
    CAUSAL,
    IDENTITY,
    IDS,
    INNERS,
    LABELS,
    PAIRS,
    PROMPT,
    biased,
    force,
    gemma,
    gpt2,
    inner_configs,
    layer_of,
    llama,
    logits_of,
    reference,
    shake,
    some_entries,
    weave,
)


def padded(num_left, num_right):
    left, right = IDS.new_zeros(len(IDS), num_left), IDS.new_zeros(len(IDS), num_right)
    mask = torch.cat([left, torch.ones_like(IDS), right], 1)
    labels = torch.cat([left - 100, LABELS, right - 100], 1)
    return {"input_ids": torch.cat([left, IDS, right], 1), "attention_mask": mask, "labels": labels}


@pytest.mark.parametrize("inner", IDENTITY)
def test_an_adapter_that_changes_nothing_gives_the_base_bit_for_bit_whatever_the_gate(inner):
    for make in CAUSAL.values() if inner == "lora" else [llama]:
        woven = weave(make(), inner)
        for parameter in layer_of(woven).parameters():
            parameter.data.normal_(0, 30)
        assert torch.equal(logits_of(woven), logits_of(make()))


@pytest.mark.parametrize(("name", "inner"), PAIRS)
def test_it_is_what_the_papers_equations_give_of_two_whole_models(name, inner):
    woven = shake(weave(CAUSAL[name](), inner))
    with torch.no_grad():
        expected = reference(CAUSAL[name](), woven, PROMPT)[:, PROMPT - 1 :]
        assert torch.allclose(woven(input_ids=IDS, labels=LABELS).logits[:, PROMPT - 1 :], expected, atol=1e-5)
        mask = torch.arange(8)[None].expand(2, -1) < PROMPT
        assert torch.allclose(woven(input_ids=IDS, prompt_mask=mask).logits[:, PROMPT - 1 :], expected, atol=1e-5)
    assert (expected - logits_of(CAUSAL[name]())[:, PROMPT - 1 :]).abs().max() > 1e-2


@pytest.mark.parametrize("inner", ["lora", "prefix", "prompt", "fish"])
def test_padding_and_other_rows_change_nothing(inner):
    woven = shake(weave(llama(), inner))
    with torch.no_grad():
        rows = [woven(input_ids=IDS[i : i + 1], labels=LABELS[i : i + 1]).logits for i in range(2)]
        alone = torch.cat(rows)
        assert torch.allclose(woven(input_ids=IDS, labels=LABELS).logits, alone, atol=1e-5)
        for left, right in ((0, 3), (3, 0)):
            logits = woven(**padded(left, right)).logits
            assert torch.allclose(logits[:, left : left + IDS.shape[1]], alone, atol=1e-5)


@pytest.mark.parametrize("make", [llama, gpt2, gemma, biased])
def test_a_gate_of_1_is_the_base_and_of_0_the_tuned_model(make):
    from peft import get_peft_model

    woven = shake(weave(make()))
    with quiet_peft():
        tuned = get_peft_model(make(), inner_configs(make())["lora"]).eval()
    tuned.load_state_dict(woven.state_dict(), strict=False)
    assert torch.equal(logits_of(force(woven, 1.0)), logits_of(make()))
    assert torch.equal(logits_of(force(woven, 0.0)), logits_of(tuned))
    assert (logits_of(tuned) - logits_of(make())).abs().max() > 1e-2


@pytest.mark.parametrize("make", [llama, biased])
def test_without_gate_it_is_the_mean_of_both_models_logits(make):
    woven = shake(weave(make(), gate="fixed"))
    assert not list(layer_of(woven).parameters())
    mean = (logits_of(make()) + logits_of(force(shake(weave(make())), 0.0))) / 2
    assert torch.allclose(logits_of(woven), mean, atol=1e-5)


def test_a_squashed_logit_is_that_of_the_mixed_state():
    woven = weave(gemma(), gate="fixed")
    shake(woven)
    with torch.no_grad():
        states = woven.base_model.model.model(IDS).last_hidden_state
        expected = 2.0 * torch.tanh(woven.base_model.model.lm_head(states) / 2.0)
    assert torch.allclose(logits_of(woven), expected, atol=1e-6)
    assert logits_of(woven).abs().max() <= 2


def test_every_state_lies_between_both_memories():
    woven = shake(weave(llama()), scale=2.0)
    kept = {}
    layer = layer_of(woven)
    plain = layer.gate_of
    layer.gate_of = lambda run, frozen, tuned: kept.update(frozen=frozen, tuned=tuned) or plain(run, frozen, tuned)
    with torch.no_grad():
        output = woven(input_ids=IDS, output_hidden_states=True)
    mixed = output.hidden_states[-1]
    assert (mixed >= torch.minimum(kept["frozen"], kept["tuned"])).all()
    assert (mixed <= torch.maximum(kept["frozen"], kept["tuned"])).all()
    assert torch.equal(woven.base_model.model.lm_head(mixed), output.logits)


def test_the_gate_without_query_reads_the_token_alone():
    woven = shake(weave(llama(), gate="token", gate_rank=3))
    gate = layer_of(woven).imsm_gate["default"]
    assert gate.down.weight.shape == (3, 2 * 16) and gate.up.weight.shape == (16, 3)
    labels = torch.where(torch.arange(8) < 2, -100, IDS)
    with torch.no_grad():
        assert torch.equal(woven(input_ids=IDS, labels=labels).logits, logits_of(woven))
        h, own = llama().model(IDS).last_hidden_state, force(shake(weave(llama(), gate="token", gate_rank=3)), 0.0)
        tuned = own.base_model.model.model(IDS).last_hidden_state
        gates = torch.sigmoid(torch.cat([h, tuned], -1) @ gate.down.weight.T @ gate.up.weight.T)
        assert torch.allclose(logits_of(woven), llama().lm_head(gates * h + (1 - gates) * tuned), atol=1e-5)


def test_gates_can_be_read():
    woven = shake(weave(llama()))
    gates = read_gates(woven, input_ids=IDS, labels=LABELS)
    assert gates.shape == (*IDS.shape, 16) and gates.dtype == torch.float32
    assert ((gates > 0) & (gates < 1)).all() and gates.std() > 0.02
    with torch.no_grad():
        logits = woven(input_ids=IDS, labels=LABELS).logits
        tuned = force(copy.deepcopy(woven), 0.0).base_model.model.model(IDS).last_hidden_state
        mixed = tuned + gates * (llama().model(IDS).last_hidden_state - tuned)
    assert torch.allclose(llama().lm_head(mixed), logits, atol=1e-5)
    assert torch.equal(read_gates(weave(llama(), gate="fixed"), input_ids=IDS), torch.full((2, 8, 16), 0.5))


def test_the_gate_has_5_d_r_parameters_without_bias():
    for rank in (4, 8):
        assert sum(p.numel() for p in layer_of(weave(llama(), gate_rank=rank)).parameters()) == 5 * 16 * rank


@pytest.mark.parametrize("inner", INNERS)
def test_gradients_are_those_of_two_copies_and_reach_inner_adapter_and_gate_alone(inner):
    def gradients(woven, logits):
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), LABELS[:, 1:].flatten())
        loss.backward()
        made = {n: p.grad.clone() for n, p in woven.named_parameters() if p.grad is not None}
        woven.zero_grad()
        return made

    woven = shake(weave(llama(), inner))
    own = gradients(woven, woven(input_ids=IDS, labels=LABELS).logits)
    base = llama().requires_grad_(False)
    expected = gradients(woven, reference(base, woven, PROMPT))
    assert own.keys() == expected.keys() == {n for n, p in woven.named_parameters() if p.requires_grad}
    assert sum("imsm_gate" in name for name in own) == 2
    assert all(torch.allclose(own[name], expected[name], atol=1e-5) for name in own)
    assert all(own[name].abs().max() > 0 for name in own)


def test_training_learns_and_leaves_the_base():
    woven = weave(llama(), gate_dropout=0.1).train()
    optimizer = torch.optim.AdamW([p for p in woven.parameters() if p.requires_grad], lr=2e-2)
    losses = []
    for _ in range(12):
        loss = woven(input_ids=IDS, labels=LABELS).loss
        loss.backward()
        losses.append(float(loss.detach()))
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.7 * losses[0]
    woven.eval()
    with woven.disable_adapter():
        assert torch.equal(logits_of(woven), logits_of(llama()))
    assert not torch.allclose(logits_of(woven), logits_of(llama()), atol=1e-2)
    assert torch.equal(logits_of(woven.unload().eval()), logits_of(llama()))


def test_dropout_is_of_training_and_of_the_tuned_memory_alone():
    noisy = gpt2()
    for module in noisy.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    woven = force(shake(weave(noisy)), 1.0).train()
    prompt = torch.ones_like(IDS)
    assert torch.equal(logits_of(woven, prompt_mask=prompt), logits_of(gpt2()))
    assert all(module.training for module in woven.modules())
    for rate, equal in ((0.0, True), (0.5, False)):
        woven = shake(weave(llama(), gate_dropout=rate)).train()
        one, other = (logits_of(woven, prompt_mask=prompt) for _ in range(2))
        assert torch.equal(one, other) == equal


def test_dropout_is_on_the_outputs_of_both_matrices():
    """What is dropped on W_B's output has the gate 1/2, on W_A's it is missing from the sum."""
    from knowtune.methods.imsm.tuner.gate import Gate

    torch.manual_seed(0)
    gate, states = Gate(64, 1, 0.5, "token"), torch.randn(200, 64)
    gates = gate(states, states, None)
    halves = (gates == 0.5).float().mean(1)
    assert 0.4 < float((halves == 1).float().mean()) < 0.6  # r = 1 is dropped whole
    assert 0.4 < float(halves[halves < 1].mean()) < 0.6


def test_the_gate_is_computed_in_float32():
    woven = shake(weave(llama().bfloat16()))
    kept = {}
    layer = layer_of(woven)
    plain = layer.gate_of
    layer.gate_of = lambda run, frozen, tuned: kept.setdefault("gate", plain(run, frozen, tuned))
    assert logits_of(woven).dtype == torch.bfloat16 and kept["gate"].dtype == torch.float32
    assert all(p.dtype == torch.float32 for p in layer.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        kept.clear()
        logits_of(woven)
    assert kept["gate"].dtype == torch.float32


def test_a_pass_leaves_what_is_trained_and_what_is_not_as_it_was():
    woven = weave(llama())
    for trained in (True, False):
        for parameter in woven.parameters():
            parameter.requires_grad_(trained and "imsm" in str(parameter.shape))
        before = [p.requires_grad for p in woven.parameters()]
        logits_of(woven)
        assert [p.requires_grad for p in woven.parameters()] == before


def test_the_head_is_the_bases_when_its_weight_is_tied_to_embeddings_that_are_trained():
    from knowtune import FishConfig

    model = llama(tie_word_embeddings=True)
    config = FishConfig(mask={"model.embed_tokens.weight": some_entries(model)["model.embed_tokens.weight"]})
    woven = force(shake(weave(model, config)), 0.0)
    with torch.no_grad():
        states = woven.base_model.model.model(IDS).last_hidden_state
        plain = llama(tie_word_embeddings=True)
        assert torch.equal(logits_of(woven), plain.lm_head(states))
        assert not torch.allclose(states, plain.model(IDS).last_hidden_state, atol=1e-2)
        with woven.disable_adapter():
            assert torch.equal(logits_of(woven), logits_of(plain))
        assert torch.equal(logits_of(woven), plain.lm_head(states))


def test_with_gradient_checkpointing_gradients_are_the_same():
    made = []
    for checkpointing in (False, True):
        woven = shake(weave(llama())).train()
        if checkpointing:
            woven.base_model.model.activation_checkpointing_enable()
            woven.base_model.model.enable_input_require_grads()
        woven(input_ids=IDS, labels=LABELS).loss.backward()
        made.append({name: p.grad for name, p in woven.named_parameters() if p.grad is not None})
    assert all(torch.allclose(made[0][name], made[1][name], atol=1e-6) for name in made[0])
