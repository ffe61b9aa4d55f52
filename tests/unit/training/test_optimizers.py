from __future__ import annotations

import copy
from pathlib import Path

import torch

from knowtune.checkpoints.base import Base
from knowtune.training.fit import fit
from knowtune.training.optimizers import MuonAdamW
from knowtune.training.trainer import KnowledgeTrainer
from tests.unit.helpers import counted_calls, encoded, equal_states, fact_rows, recipe, state, training


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.embed = torch.nn.Embedding(7, 4)
        self.inner = torch.nn.Linear(4, 6)
        self.fixed = torch.nn.Linear(6, 6).requires_grad_(False)
        self.lm_head = torch.nn.Linear(6, 7, bias=False)
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=generator)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.lm_head(self.fixed(self.inner(self.embed(ids))))
        return out


def step(model: Small, *optimizers: torch.optim.Optimizer) -> None:
    model(torch.tensor([1, 2, 5])).square().sum().backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()


def test_which_weight_goes_where() -> None:
    model = Small()
    optimizer = MuonAdamW(model, 0.01, 0.1)
    groups = [[id(p) for p in group["params"]] for group in optimizer.param_groups]
    assert groups == [
        [id(model.inner.weight)],
        [id(model.embed.weight), id(model.inner.bias), id(model.lm_head.weight)],
    ]
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.01]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 0.1]


def test_a_step_is_that_of_torchs_own_two() -> None:
    one, two = Small(), Small()
    both = MuonAdamW(one, 0.01, 0.1)
    muon = torch.optim.Muon([two.inner.weight], lr=0.1, weight_decay=0.0)
    rest = [two.embed.weight, two.inner.bias, two.lm_head.weight]
    adam = torch.optim.AdamW(rest, lr=0.01, weight_decay=0.1, fused=True)
    for _ in range(3):
        step(one, both)
        step(two, muon, adam)
    assert equal_states(state(one), state(two))
    assert not equal_states(state(one), state(Small()))


def test_a_scheduler_reaches_both() -> None:
    model = Small()
    optimizer = MuonAdamW(model, 0.01, 0.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)
    assert [group["lr"] for part in optimizer.parts for group in part.param_groups] == [0.0, 0.0]
    before = state(model)
    step(model, optimizer)
    scheduler.step()
    assert equal_states(state(model), before)


def test_a_state_goes_on_where_it_was() -> None:
    one = Small()
    first = MuonAdamW(one, 0.01, 0.1)
    step(one, first)
    two = Small()
    two.load_state_dict(one.state_dict())
    second = MuonAdamW(two, 0.5, 0.0)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for _ in range(2):
        step(one, first)
        step(two, second)
    assert equal_states(state(one), state(two))
    assert [group["lr"] for group in second.param_groups] == [0.1, 0.01]


def test_gradients_are_cleared() -> None:
    model = Small()
    optimizer = MuonAdamW(model, 0.01, 0.0)
    model(torch.tensor([1])).sum().backward()
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_a_killed_training_resumes_to_the_same_bits(base: Base, work: Path) -> None:
    def run(place: Path) -> dict[str, torch.Tensor]:
        model = base.model()
        optimizer = MuonAdamW(model, 1e-3, 0.01)
        options = recipe(learning_rate=1e-3, save_steps=2, lr_scheduler_type="cosine")
        rows = encoded(base, fact_rows())
        return state(fit(model, training(rows, place, options, optimizer=optimizer)).model)

    whole = run(work / "whole")
    with counted_calls(KnowledgeTrainer, "compute_loss", 4, RuntimeError("killed")):
        try:
            run(work / "parts")
        except RuntimeError as error:
            assert str(error) == "killed"
    assert (work / "parts" / "checkpoints" / "checkpoint-2").is_dir()
    assert equal_states(run(work / "parts"), whole)
