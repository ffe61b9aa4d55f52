from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.common.files import read_json
from knowtune.methods.base import Method
from knowtune.methods.fish.method import Fish
from knowtune.methods.full import Full
from knowtune.methods.lora import Lora
from knowtune.methods.peft import Peft
from knowtune.models.forward import forward
from knowtune.models.heads import head_parameters
from knowtune.models.masks import num_entries
from knowtune.selectors.artefact import open_selection
from knowtune.selectors.budgets import Budgeted
from knowtune.selectors.fish import Fish as Selector
from knowtune.selectors.ird import Ird
from knowtune.selectors.random import Random
from knowtune.selectors.run import ChoiceJob, Warmup, choose_seed
from knowtune.training.fit import fit
from knowtune.training.recipe import ShortTraining
from knowtune.training.run import Job, train_seed
from tests.unit.helpers import encoded, fact_rows, recipe, review_rows, state, training

IDS = [[1, 5, 9, 30, 200], [7, 8]]


def choose(base: Base, selector: Budgeted, folder: Path, rows: pd.DataFrame | None = None, **options: Any) -> Any:
    rows = fact_rows() if rows is None else rows
    job = ChoiceJob("s", "fish", selector, 0, rows, **options)
    choose_seed(job, base, folder, folder.with_name("work"))
    return open_selection(folder)


def trained(base: Base, selected: Any, work: Path, rows: pd.DataFrame | None = None, **changes: Any) -> Any:
    method = Fish()
    torch.manual_seed(0)
    model = method.attach_masked(base.model(), selected.mask, selected.adapter)
    given = encoded(base, fact_rows() if rows is None else rows)
    options = recipe(**{"learning_rate": 0.01, "epochs": 2, **changes})
    return fit(model, training(given, work, options, task=base.task, method=method)).model


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> dict[str, list[int]]:
    return {name: (before[name] != after[name]).flatten().nonzero().flatten().tolist() for name in before}


@pytest.mark.parametrize("selector", [Selector(budget=0.02, samples=6), Ird(num_parameters=500, samples=5, rounds=2)])
def test_the_chosen_entries_of_the_base_move_and_no_others(base: Base, selector: Budgeted, tmp_path: Path) -> None:
    selected = choose(base, selector, tmp_path / "seed-0")
    changes = {"weight_decay": 0.1, "gradient_accumulation_steps": 2, "max_grad_norm": 0.1}
    model = trained(base, selected, tmp_path / "train", **changes)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == num_entries(selected.mask)
    Fish().save(model, tmp_path / "saved")
    folded = Fish().fold(Fish().load(base.model(), tmp_path / "saved"))
    found = moved(dict(base.model().named_parameters()), dict(folded.named_parameters()))
    assert {
        name: set(indices) <= set(selected.mask[name].tolist()) for name, indices in found.items()
    } == dict.fromkeys(found, True)
    assert sum(map(len, found.values())) > 0.9 * num_entries(selected.mask)


def test_a_classifiers_head_is_trained_whole_and_counts(encoder: Base, tmp_path: Path) -> None:
    selected = choose(encoder, Selector(num_parameters=400), tmp_path / "seed-0", review_rows())
    head = sum(p.numel() for p in head_parameters(encoder.model()).values())
    assert num_entries(selected.mask) == 400 - head
    assert not [name for name in selected.mask if "classifier" in name]
    model = trained(encoder, selected, tmp_path / "train", review_rows())
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 400
    Fish().save(model, tmp_path / "saved")
    loaded = Fish().load(encoder.model(), tmp_path / "saved")
    with torch.inference_mode():
        inputs = encoder.task.inputs(encoded(encoder, review_rows()).rows[:5])
        assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)


def test_a_budget_that_the_head_fills(encoder: Base, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"num_parameters: got 66, but the classifier's head, which is always trained, has 66"
    ):
        choose(encoder, Selector(num_parameters=66), tmp_path / "seed-0", review_rows())


ADAPTERS: list[tuple[str, Method]] = [
    ("lora", Lora(rank=2, alpha=4.0)),
    ("peft", Peft(type="lora", r=2, target_modules="all-linear", use_dora=True)),
    ("peft", Peft(type="vera", r=8, target_modules=["q_proj", "v_proj"])),
]


@pytest.mark.parametrize(("name", "method"), ADAPTERS)
class TestFishTuning:
    def selected(self, name: str, method: Method, base: Base, tmp_path: Path) -> Any:
        warmup = Warmup(name, method, ShortTraining(steps=5, learning_rate=0.01, batch_size=4))
        return choose(base, Selector(num_parameters=60), tmp_path / "seed-0", warmup=warmup)

    def test_the_chosen_entries_of_the_adapter_move_and_no_others(
        self, name: str, method: Method, base: Base, tmp_path: Path
    ) -> None:
        selected = self.selected(name, method, base, tmp_path)
        assert num_entries(selected.mask) == 60
        assert selected.card["adapter"]["method"] == name
        model = trained(base, selected, tmp_path / "train", weight_decay=0.1)
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 60
        with torch.inference_mode():
            computed = forward(model.eval(), IDS)
        Fish().save(model, tmp_path / "saved")
        warm, cold = (Fish().load(base.model(), place) for place in (selected.adapter, tmp_path / "saved"))
        found = moved(state(warm), state(cold))
        chosen = {n: set(m.tolist()) for n, m in selected.mask.items()}
        assert all(set(indices) <= chosen.get(n, set()) for n, indices in found.items())
        assert sum(map(len, found.values())) > 50
        with torch.inference_mode():
            assert torch.equal(forward(cold, IDS), computed)

    def test_what_is_saved_is_a_plain_adapter_of_its_kind(
        self, name: str, method: Method, base: Base, tmp_path: Path
    ) -> None:
        selected = self.selected(name, method, base, tmp_path)
        Fish().save(trained(base, selected, tmp_path / "train"), tmp_path / "saved")
        assert read_json(tmp_path / "saved" / "adapter_config.json")["peft_type"] != "FISH"
        folded = Fish().fold(Fish().load(base.model(), tmp_path / "saved"))
        assert type(folded).__name__ == "LlamaForCausalLM"

    def test_a_killed_training_goes_on_to_the_same_bits(
        self, name: str, method: Method, base: Base, tmp_path: Path
    ) -> None:
        from tests.unit.helpers import counted_calls

        selected = self.selected(name, method, base, tmp_path)
        whole = state(trained(base, selected, tmp_path / "whole", save_steps=3))
        from knowtune.training.trainer import KnowledgeTrainer

        with counted_calls(KnowledgeTrainer, "compute_loss", 9, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
            trained(base, selected, tmp_path / "killed", save_steps=3)
        assert (tmp_path / "killed" / "checkpoints" / "checkpoint-6").is_dir()
        resumed = state(trained(base, selected, tmp_path / "killed", save_steps=3))
        assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_without_a_mask(base: Base) -> None:
    with pytest.raises(UserError, match="fish: no mask; name a selection with a budget"):
        Fish().attach(base.model())


def test_a_run_with_a_method_that_cannot_use_the_mask(base: Base, tmp_path: Path) -> None:
    selected = choose(base, Random(budget=0.01), tmp_path / "seed-0")
    rows = fact_rows()
    job = Job("r", "full", Full(), recipe(), 0, rows, rows.head(0), selected.mask)
    with pytest.raises(
        UserError, match="train r: full cannot use the parameter mask of its selection; use fish or lora"
    ):
        train_seed(job, base, tmp_path / "out", tmp_path / "work")
