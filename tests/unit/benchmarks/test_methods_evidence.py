"""The page on KaSA and SK-Tuning: each kind of arm is trained, and made-up pieces become verdicts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.evidence.comparisons import GRID_SEED, SECOND_SEED
from benchmarks.evidence.store import Store, read_latest
from benchmarks.methods_evidence import page
from benchmarks.methods_evidence.arms import ARMS, FULL, RATES, TEXTS, Arm
from benchmarks.methods_evidence.bench import Setting
from benchmarks.methods_evidence.short_trainings import CostsBench
from benchmarks.methods_evidence.texts import CLAIMS
from benchmarks.preserve_evidence.materials import Task
from knowtune.common.files import text_digest

ROOT = Path(__file__).resolve().parents[3]
METRICS = ("generalisation", "reliability", "forgotten", "text_drift")
WIDTHS = {"oft_block_size": 8}  # the small base's layers are narrower than the blocks


def small(arm: Arm) -> Arm:
    return replace(arm, options={**arm.options, **{name: WIDTHS[name] for name in WIDTHS if name in arm.options}})


@pytest.fixture
def bench(task: Task, tmp_path: Path) -> CostsBench:
    made = CostsBench(replace(task.material, metrics=METRICS), tmp_path)
    made.arms = {name: small(arm) for name, arm in made.arms.items()}
    return made


@pytest.mark.parametrize("name", [arm.name for arm in ARMS])
def test_an_arm_is_trained(name: str, bench: CostsBench) -> None:
    bench.train(Setting(name, 0, 1e-2))
    (piece,) = [each for each in read_latest(bench.store.path)[1] if each["what"] == "training"]
    assert piece["num_trainable"] > 0
    assert ("forgotten_of_truncated" in piece["metrics"]) == (name in ("KaSA", "PEFT's KaSA"))


@pytest.mark.parametrize("task", RATES)
def test_what_is_finished_still_counts(task: str) -> None:
    arms = {arm.name: arm for arm in ARMS}
    for piece in read_latest(ROOT / f"benchmarks/methods_evidence/finished/{task}.jsonl")[1]:
        if piece["what"] == "training":
            setting = Setting(piece["arm"], piece["seed"], piece["learning_rate"])
            made = [piece["identity"], [asdict(setting), asdict(arms[setting.arm]), TEXTS[task]]]
            assert piece["key"] == text_digest(made)[:24]


def test_full_fine_tuning_is_trained_last_and_weighed_beside_lora_and_kasa(bench: CostsBench) -> None:
    assert list(bench.arms)[-1] == FULL
    rounds = dict(bench.rounds())
    assert [name for name in bench.arms if name not in rounds[0]] == [FULL]
    assert rounds[5] == ["LoRA", "KaSA", FULL]


def test_costs_are_of_rounds_in_which_all_arms_take_turns(bench: CostsBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.methods_evidence.short_trainings.ROUNDS", 2)
    monkeypatch.setattr("benchmarks.methods_evidence.short_trainings.COST_STEPS", 2)
    bench.arms = {name: bench.arms[name] for name in ("LoRA", "SK prefix")}
    bench.compare_costs()
    costs = [piece for piece in read_latest(bench.store.path)[1] if piece["what"] == "cost"]
    assert [(piece["seed"], piece["arm"]) for piece in costs] == [(i, arm) for i in range(2) for arm in bench.arms]
    assert all(piece["cpu"] > 0 and piece["num_trainable"] > 0 for piece in costs)
    monkeypatch.setattr(bench, "short_training", None)
    bench.compare_costs()  # all is there


def test_pefts_kasa_trains_to_what_ours_does(bench: CostsBench) -> None:
    """With its penalties in a sum, as PEFT's are; ours leaves the base alone."""
    arms = bench.arms
    models = {}
    for name, reduction in (("KaSA", {"reduction": "sum"}), ("PEFT's KaSA", {})):
        method = bench.method(replace(arms[name], options={**arms[name].options, **reduction}))
        torch.manual_seed(0)
        model = method.attach(bench.base.model())
        models[name] = bench.fit(model, bench.encoded, method, Setting(name, 0, 1e-2), 8)[0].model
    states = [{key: value for key, value in model.state_dict().items() if ".lora_" in key} for model in models.values()]
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        torch.testing.assert_close(value, states[1][key], rtol=1e-2, atol=1e-4)  # Adam makes more of rounding


def test_a_seed_trains_at_the_chosen_rate_and_the_one_below(bench: CostsBench) -> None:
    arm = bench.arms["LoRA"]
    for setting, learned in zip(bench.tried(arm), (0.1, 0.4, 0.3), strict=True):
        scores = {"generalisation": learned}
        bench.add("training", bench.key(setting), metrics=scores)
    assert [each.learning_rate for each in bench.of_seed(arm, 1)] == [2e-3, 4e-3]
    assert bench.left() == (len(bench.arms) - 1) * (3 + 2 * 5) + 2 * 5


def test_a_second_seed_is_trained_where_the_first_learns_the_same_at_every_rate(bench: CostsBench) -> None:
    arm = bench.arms["LoRA"]
    bench.arms = {arm.name: arm}
    while missing := bench.choosing_left(arm):
        assert next(bench.settings()) == missing[0]
        assert bench.left() == len(missing) + 2 * 5
        learned = 0.5 if missing[0].seed == GRID_SEED else missing[0].learning_rate
        bench.add("training", bench.key(missing[0]), metrics={"generalisation": learned})
    tried = [each.learning_rate for each in bench.tried(arm)]
    assert [(each.seed, each.learning_rate) for each in bench.again(arm)] == [(SECOND_SEED, rate) for rate in tried]
    assert [each.learning_rate for each in bench.of_seed(arm, 0)] == tried[-2:]


def test_seeds_are_not_trained_while_two_seeds_leave_the_rate_open(bench: CostsBench) -> None:
    arm = bench.arms["LoRA"]
    bench.arms = {arm.name: arm}
    while missing := bench.choosing_left(arm):
        bench.add("training", bench.key(missing[0]), metrics={"generalisation": 0.5})
    assert (list(bench.settings()), bench.left()) == ([], 0)


@pytest.mark.parametrize(
    ("peak", "rates"),
    [(4e-3, [2e-3, 4e-3, 8e-3]), (1e-3, [5e-4, 1e-3, 2e-3, 4e-3, 8e-3]), (1.0, [2e-3, 4e-3, 8e-3, 1.6e-2])],
    ids=["in between", "below", "above all"],
)
def test_rates_go_on_until_the_best_lies_between_two(peak: float, rates: list[float], bench: CostsBench) -> None:
    arm = bench.arms["LoRA"]
    while missing := bench.missing(bench.tried(arm)):
        scores = {"generalisation": -abs(missing[0].learning_rate - peak)}
        bench.add("training", bench.key(missing[0]), metrics=scores)
    assert [each.learning_rate for each in bench.tried(arm)] == rates


def trained(arm: str, learned: float, lost: float) -> Iterator[dict[str, Any]]:
    """Yield equal trainings for every seed, but for a thousandth."""
    for seed in (GRID_SEED, 0, 1, 2):
        for rate, share in ((1e-3, 0.5), (2e-3, 1.0)):
            scores = {"generalisation": learned, "reliability": learned, "forgotten": lost, "text_drift": lost}
            metrics = {name: value * share + seed % 7 * 1e-3 for name, value in scores.items()}
            costs = {"cpu": 2.0 + seed, "wall": 2.0, "memory": 2e6, "num_trainable": 10, "steps": 4, "machine": "here"}
            yield {
                "what": "training", "key": f"{arm}{seed}{rate}", "arm": arm, "seed": seed, "learning_rate": rate,
                "metrics": metrics | ({"forgotten_of_truncated": 0.1} if arm == "KaSA" else {}), **costs,
            }  # fmt: skip


def at_chance(arm: str) -> Iterator[dict[str, Any]]:
    """Yield trainings of the seed that rates are chosen by, which are all the same, and others of one rate."""
    for seed in (GRID_SEED, 0, 1, 2):
        for rate in (1e-3, 3e-3, 1e-2) if seed == GRID_SEED else (1e-3,):
            yield {
                "what": "training", "key": f"{arm}{seed}{rate}", "arm": arm, "seed": seed, "learning_rate": rate,
                "metrics": dict.fromkeys(METRICS, 0.3), "cpu": 2.0, "wall": 2.0,
            }  # fmt: skip


def weighed(arm: str, times: float) -> Iterator[dict[str, Any]]:
    """Yield what short trainings take, on a machine that is slower in each round."""
    for number in range(3):
        cost = {"cpu": 0.1 * times * (1 + number), "memory": 2e6 * times, "num_trainable": 10, "machine": "here"}
        yield {"what": "cost", "key": f"cost{arm}{number}", "arm": arm, "seed": number, **cost}


def test_the_page_holds_kasa_against_lora_and_its_own_base(tmp_path: Path) -> None:
    sizes = {"items": {"locality": 3}, "parameters": 9, "rows": 9, "steps": 4, "batch_size": 2, "texts": 1}
    for task in ("embedded", "pararel"):
        store = Store(tmp_path, task)
        base = dict.fromkeys(METRICS, 0.0)
        pieces = [
            {"what": "base", "key": "base", "metrics": base, "sizes": {**sizes, "virtual_tokens": 5}},
            {"what": "truncated", "key": "truncated", "metrics": base | {"forgotten": 0.25, "text_drift": 0.2}},
            *trained("LoRA", 0.6, 0.5),
            *trained("KaSA", 0.8, 0.3),
            *at_chance("SK prefix"),
            *weighed("LoRA", 1.0),
            *weighed("KaSA", 1.25),
        ]
        for piece in pieces:
            store.add({"identity": "a", **piece})
    (tmp_path / "images").mkdir()
    page.write_page(tmp_path, tmp_path)
    text = (tmp_path / "evidence-methods.md").read_text(encoding="utf-8")
    wins = "**too few comparisons**: 2 wins, 0 losses, 0 undecided"
    learned = "embedded **+20.0 ± 0.0** better<br>pararel **+20.0 ± 0.0** better"
    assert f"| KaSA is better than LoRA | {wins}<br>{learned} | **too few comparisons**" in text
    same = "0 wins, 0 losses, 2 undecided<br>embedded × 1.00 ± 0.00<br>pararel × 1.00 ± 0.00"
    more = "0 wins, 2 losses, 0 undecided<br>embedded × 1.25 ± 0.00<br>pararel × 1.25 ± 0.00"
    (cost,) = [line for line in text.splitlines() if line.startswith("| KaSA takes less than LoRA |")]
    assert (cost.count(same), cost.count(more)) == (1, 2)
    assert "| embedded | KaSA | 10 | 1.00 | 250.0 | 1.25 | 2 | 1.25 |" in text
    assert "KaSA's forgetting is smaller by 20.1 of 30.1 points (embedded)" in " ".join(text.split())
    assert "Best at an end of the rates tried so far: LoRA, KaSA." in " ".join(text.split())
    assert "| embedded | truncated, not trained | 25.0 | – | 0.200 | – |" in text
    assert "| embedded | KaSA | 30.1 ± 0.2 | 10.0 ± 0.0 | 0.301 ± 0.002 | 0.101 ± 0.002 |" in text
    assert "has place 1 of 2 from the pristine base and 1 from its own (embedded)" in " ".join(text.split())
    assert "| SK prefix | – | open: seed 100 has 30.0 at every rate | – | – | – | – |" in text
    assert "Rate open: SK prefix." in " ".join(text.split())
    assert "took 0.25 CPU hours of one core; two were planned" in " ".join(text.split())
    assert "8 took more CPU time than that, the longest 102 seconds" in " ".join(text.split())
    assert "Full fine-tuning is not trained yet" in text
    assert "- **sst2**: not finished when this page was made." in text


def test_every_claim_is_of_arms_that_are_trained() -> None:
    names = {arm.name for arm in ARMS}
    assert {name for claim in CLAIMS for name in (claim.one, claim.other)} <= names
