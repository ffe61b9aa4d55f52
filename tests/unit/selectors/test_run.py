from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.gradients import scorer as scoring
from knowtune.methods.fish.method import Fish
from knowtune.methods.lora import Lora
from knowtune.models.masks import num_entries
from knowtune.preserve.sources import Material, make_material
from knowtune.selectors.artefact import open_selection, read_selection
from knowtune.selectors.base import Selector
from knowtune.selectors.everything import Everything
from knowtune.selectors.fish import Fish as FishSelector
from knowtune.selectors.ird import Ird
from knowtune.selectors.random import Random
from knowtune.selectors.run import ADAPTER, ChoiceJob, Search, Warmup, choose_seed
from knowtune.training.recipe import ShortTraining
from tests.unit.helpers import counted_calls, equal_states, fact_rows

SHORT = ShortTraining(steps=10, learning_rate=0.01, batch_size=4)
LORA = Lora(rank=2, alpha=4.0)


def choose(base: Base, selector: Selector, folder: Path, **options: Any) -> Any:
    choose_seed(ChoiceJob("s", "fish", selector, 0, fact_rows(), **options), base, folder, folder.with_name("work"))
    return open_selection(folder)


def test_rows_alone_need_no_model(base: Base, tmp_path: Path) -> None:
    missing = replace(base, folder=tmp_path / "no such folder")
    selected = choose(missing, Random(samples=5), tmp_path / "seed-0")
    assert int(selected.rows["chosen"].sum()) == 5
    assert selected.mask is None


def test_a_fault_in_an_option_names_its_key(base: Base, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^selections\.s\.options\.samples: "):
        choose(base, Random(samples=500), tmp_path / "seed-0")


def test_the_card_names_the_adapter_and_its_folder_holds_it(base: Base, tmp_path: Path) -> None:
    selected = choose(base, FishSelector(num_parameters=60), tmp_path / "seed-0", warmup=Warmup("lora", LORA, SHORT))
    assert selected.card["adapter"] == {"method": "lora", "options": LORA.model_dump(mode="json")}
    assert selected.adapter == tmp_path / "seed-0" / ADAPTER
    assert (selected.adapter / "adapter_config.json").is_file()
    assert all("lora_" in name for name in selected.mask)


def test_the_warm_up_moves_mass_onto_a(base: Base, tmp_path: Path) -> None:
    """At initialisation B = 0, so that all of LoRA's Fisher information lies on B."""
    selected = choose(base, FishSelector(budget=0.5), tmp_path / "seed-0", warmup=Warmup("lora", LORA, SHORT))
    mass = selected.layers.set_index("parameter")["mass"]
    assert 0.01 < mass[[n for n in mass.index if "lora_A" in n]].sum() < 0.99


def test_a_search_takes_the_pair_that_does_best_on_validation_rows(base: Base, tmp_path: Path) -> None:
    selector = Ird(num_parameters=300, samples=6, rounds=3, search=True)
    search = Search(Fish(), ShortTraining(steps=4, learning_rate=0.02, batch_size=4), fact_rows().head(4))
    selected = choose(base, selector, tmp_path / "seed-0", search=search)
    scores = [line["dev_score"] for line in selected.trace]
    best = selected.trace[max(range(3), key=lambda i: (scores[i], i))]
    assert len(set(scores)) > 1
    assert num_entries(selected.mask) == best["num_parameters"]
    assert int(selected.rows["chosen"].sum()) == best["num_rows"]


def test_a_killed_selection_goes_on_to_the_same_choice(base: Base, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(scoring, "SAVE_SECONDS", -1.0)
    selector = Ird(num_parameters=300, samples=6, rounds=3, batch_size=4)
    whole = choose(base, selector, tmp_path / "whole" / "seed-0")
    with counted_calls(scoring.Scorer, "_add", 25, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        choose(base, selector, tmp_path / "killed" / "seed-0")
    with counted_calls(scoring.Scorer, "_add", 999, KeyboardInterrupt()) as calls:
        resumed = choose(base, selector, tmp_path / "killed" / "seed-0")
    assert calls[0] < 36
    pd.testing.assert_frame_equal(resumed.rows, whole.rows)
    assert all(torch.equal(resumed.mask[name], whole.mask[name]) for name in whole.mask)


PROTECT: Any = {"protect": {"from": ["known", "self"], "share": 0.4}}


@pytest.fixture
def material(base: Base) -> Material:
    """What a base knew: half of the facts, and sequences."""
    table = pd.DataFrame({"id": list("abcdef"), "input_ids": [[1, *range(5, 8 + i)] for i in range(6)]})
    return make_material(base, {"known": fact_rows().tail(12), "self": table}, 96)


def test_a_selection_that_protects_goes_on_after_a_kill(
    base: Base, material: Material, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(scoring, "SAVE_SECONDS", -1.0)
    selector = FishSelector(num_parameters=300, samples=8, batch_size=4, **PROTECT)
    with counted_calls(scoring.Scorer, "_add", 999, KeyboardInterrupt()) as all_calls:
        whole = choose(base, selector, tmp_path / "whole" / "seed-0", material=material)
    with counted_calls(scoring.Scorer, "_add", all_calls[0], KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        choose(base, selector, tmp_path / "killed" / "seed-0", material=material)
    with counted_calls(scoring.Scorer, "_add", 999, KeyboardInterrupt()) as calls:
        resumed = choose(base, selector, tmp_path / "killed" / "seed-0", material=material)
    assert calls[0] <= all_calls[0] - 3  # a batch of what was known, one of sequences, and one of rows at least
    assert equal_states(resumed.mask, whole.mask)
    assert resumed.card == whole.card
    assert whole.card["protected"]["share"] == pytest.approx(0.4, abs=1e-4)
    assert whole.card["protected"]["mass"] > 0.9 > 0.1 > whole.card["protected"]["mass_touched"] > 0


def test_an_adapters_entries_are_protected_too(base: Base, material: Material, tmp_path: Path) -> None:
    options: Any = {"granularity": "parameter", "protect": {"from": ["self"], "share": 0.75}}
    given = {"warmup": Warmup("lora", LORA, SHORT), "material": material}
    layers = choose(base, Everything(**options), tmp_path / "seed-0", **given).layers
    assert layers["parameter"].str.contains("lora_").all()
    assert (layers["kept"] + layers["protected"]).tolist() == layers["size"].tolist()
    assert (layers["kept"] / layers["size"]).tolist() == pytest.approx([0.25] * len(layers), abs=0.01)


def test_more_samples_than_sequences_name_the_key(base: Base, material: Material, tmp_path: Path) -> None:
    selector = Everything(protect={"from": ["self"], "samples": 7})
    with pytest.raises(UserError, match=r"^selections\.s\.options\.protect\.samples: got 7, but 'self' has only 6 seq"):
        choose(base, selector, tmp_path / "seed-0", material=material)


def test_a_selection_over_another_base_is_refused(base: Base, tmp_path: Path) -> None:
    choose(base, Random(budget=0.01), tmp_path / "seed-0")
    other = replace(base, card={**base.card, "digest": "f" * 64})
    with pytest.raises(UserError, match="made on a base with digest"):
        read_selection(tmp_path, 0, other)
