"""The page on preservation: how trainings become verdicts, on numbers made up; and that each kind of arm is trained."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

from benchmarks.evidence.comparisons import GRID_SEED
from benchmarks.evidence.store import Store, read_latest
from benchmarks.measuring import peak_memory
from benchmarks.preserve_evidence import goals, page, results
from benchmarks.preserve_evidence.arms import (
    BUDGETS,
    PARTS,
    PRESERVE,
    Arm,
    Averaged,
    Part,
    arms_of,
    masked,
    of_parts,
    order_of,
)
from benchmarks.preserve_evidence.bench import COPY, PreserveBench, Setting
from benchmarks.preserve_evidence.correlations import correlations
from benchmarks.preserve_evidence.interpolations import MIXTURES, average_in, mixed
from benchmarks.preserve_evidence.materials import METRICS, Task
from cli.proposing.keeping import plain_beside
from knowtune.checkpoints.base import Base
from knowtune.common.files import read_rows
from knowtune.data.quotes import Quotes
from knowtune.preserve.options import Preserve, Protect

ROOT = Path(__file__).resolve().parents[3]
BASE = dict.fromkeys(METRICS, 0.0) | {"known": 0.9}


def scores(learned: float, lost: float, seed: int = 0, kl: float = 0.0) -> dict[str, float]:
    noise = seed % 7 * 1e-3
    return BASE | {
        "generalisation": learned + noise,
        "forgotten": lost + noise,
        "text_drift": lost,
        "kl_to_base": kl,
        "kl_to_base_prompts": kl,
    }


def trained(arm: str, points: Mapping[float, tuple[float, float]], num: int = 3) -> Iterator[dict[str, Any]]:
    """Yield the same trainings for every seed, but for a thousandth."""
    for seed in (GRID_SEED, *range(num)):
        for rate, (learned, lost) in points.items():
            piece = {"what": "training", "arm": arm, "seed": seed, "learning_rate": rate, "identity": "a"}
            costs = {
                "cpu": 2.0 if "self" in arm else 1.0,
                "ready": 0.5,
                "memory": 10**6,
                "steps": 4,
                "wall": 1.0,
                "machine": "here",
            }
            yield {**piece, "key": f"{arm}{seed}{rate}", "metrics": scores(learned, lost, seed), **costs}


def mixtures(arm: str, points: Mapping[float, tuple[float, float]], on_choice: Mapping[float, Any]) -> list[Any]:
    return [
        {
            "what": "mixture", "arm": arm, "seed": seed, "alpha": alpha, "identity": "a",
            "key": f"{arm}{seed}{alpha}", "metrics": scores(*points[alpha], seed), "choice": on_choice[alpha],
        }
        for seed in (GRID_SEED, 0, 1, 2)
        for alpha in points
    ]  # fmt: skip


def read(folder: Path, pieces: list[dict[str, Any]], name: str = "embedded") -> results.TaskResults:
    store = Store(folder, name)
    sizes = {"rows": 9, "items": {"locality": 3}, "texts": 2, "steps": 4, "batch_size": 2, "kept": {"self": 5}}
    store.add({"what": "base", "key": "base", "identity": "a", "metrics": BASE, "sizes": sizes})
    for piece in pieces:
        store.add(piece)
    return next(result for result in results.read_results(folder) if result.name == name)


PLAIN = {1.0: (0.3, 0.2), 2.0: (0.6, 0.5)}
SELF = {1.0: (0.3, 0.0), 2.0: (0.5, 0.1)}


def test_parts_are_held_against_the_plain_arm_of_their_method_at_equal_learning(tmp_path: Path) -> None:
    pieces = [*trained("lora: plain", PLAIN), *trained("lora: self", SELF), *trained("full: self", SELF)]
    result = read(tmp_path, pieces)
    comparison = result.of_method("lora")
    assert comparison is not None
    equal = comparison.at_equal_learning("self", "plain")
    # from 0.3 to 0.5 the one goes from 0 to 0.1, the other from 0.2 to 0.4; at chosen rates the difference is 0.4
    assert equal.mean == pytest.approx(-0.25)
    assert comparison.difference("self", "plain", "generalisation").mean == pytest.approx(-0.1)
    assert result.of_method("full") is None  # nothing to be held against
    assert result.hours == pytest.approx((8 * 1.5 + 16 * 2.5) / 3600)


def test_a_mixture_is_judged_at_the_alpha_that_its_own_rule_chooses_with_the_grids_seed(tmp_path: Path) -> None:
    points = {0.5: (0.4, 0.1), 1.0: (0.6, 0.5)}
    on_choice = {0.5: {"learned": 0.4, "forgotten": 0.01}, 1.0: {"learned": 0.6, "forgotten": 0.3}}
    name = "lora: plain, interpolated"
    result = read(tmp_path, [*trained("lora: plain", PLAIN), *mixtures(name, points, on_choice)])
    assert result.comparison.rate(name) == 0.5  # alpha 1 learns most
    assert result.arms == ["lora: plain", name]
    assert result.machine(name) is None
    for choice in on_choice.values():  # none within the bound: the one that forgets least
        choice["forgotten"] += 0.2
    assert results.chosen_alpha(mixtures(name, points, on_choice)) == 0.5


def test_arms_with_too_few_seeds_are_named_and_in_no_table(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    pieces = [*trained("lora: plain", PLAIN), *trained("lora: self", SELF, num=2)]
    result = read(tmp_path, pieces)
    assert result.arms == ["lora: plain"]
    assert result.unfinished["lora: self"] == 2
    page.write_page(tmp_path, tmp_path)
    text = (tmp_path / "evidence-preserve.md").read_text(encoding="utf-8")
    assert "lora: plain (3)" in text
    assert not [line for line in text.split("\n") if line.startswith("| lora: self")]
    assert "- **stories3m-facts**: not finished when this page was made." in text


def test_a_goal_is_beside_plain_lora_and_milder_without_data(tmp_path: Path) -> None:
    arms = {
        "lora: plain": {1.0: (0.6, 0.3)},
        "full: self": {0.5: (0.588, 0.01), 1.0: (0.59, 0.03)},  # 1.2 points behind, of 1.5
        "full: replay": {1.0: (0.588, 0.01)},  # of 1
        "lora: self": {1.0: (0.592, 0.021)},  # forgets more than 2 points
        "lora: replay + distil both": {1.0: (0.592, 0.01)},
    }
    pieces = [piece for arm, points in arms.items() for piece in trained(arm, points)]
    result = read(tmp_path, pieces, "stories3m-facts")
    at = {arm: goals.reached_at(result, arm) for arm in (*arms, "mask: random")}
    reaching = {"full: self": [0.5], "lora: replay + distil both": [1.0]}
    assert at == {arm: reaching.get(arm, []) for arm in at}
    rows = {line.split(" | ")[0]: line.split(" | ")[-1] for line in page.targets(result)}
    assert (rows["| full: self"], rows["| lora: replay + distil both"], rows["| lora: self"]) == (
        "at 0.5 |",
        "**yes** |",
        "no |",
    )


def test_an_average_is_held_against_the_first_of_its_trainings_rate_by_rate(tmp_path: Path) -> None:
    one, three = "full: firm ewc", "full: firm ewc, 3 averaged"
    pieces = [*trained(one, PLAIN), *trained(three, {1.0: (0.35, 0.1), 2.0: (0.6, 0.3)})]
    lines = list(page.averages([read(tmp_path, pieces, "stories3m-facts")]))[2:]
    assert [line.split(" | ")[1:6] for line in lines] == [
        [three, "1", "3", "**+5.0 ± 0.0** better", "**-10.0 ± 0.0** better"],
        [three, "2", "3", "+0.0 ± 0.0", "**-20.0 ± 0.0** better"],
    ]


def test_what_is_switched_off_is_counted_over_methods_and_tasks(tmp_path: Path) -> None:
    whole, without = {1.0: (0.3, 0.0), 2.0: (0.5, 0.1)}, {1.0: (0.3, 0.1), 2.0: (0.6, 0.3)}
    found = []
    for name in PARTS:
        pieces = []
        for method in ("lora", "full") if name == "embedded" else ("full",):
            pieces += trained(f"{method}: replay + distil both + ewc", whole)
            pieces += trained(f"{method}: self + ewc", without)
        found.append(read(tmp_path / name, pieces, name))
    lines = list(page.switched_off(page.comparisons(found)))
    (replay,) = (line for line in lines if line.startswith("| replay |"))
    assert "+10.0 points on average, **supported**: 3 wins" in replay  # 10 points more are learned
    assert "points on average, **contradicted**: 0 wins, 3 losses" in replay  # at equal learning more is forgotten
    (distillation,) = (line for line in lines if line.startswith("| distillation |"))
    assert "too few comparisons" in distillation


def test_a_divergence_may_predict_between_arms_and_not_within(tmp_path: Path) -> None:
    pieces = []
    for arm in range(12):
        for seed, bend in enumerate((-1, 0, 1)):
            metrics = scores(0.1, arm + bend * 0.1, kl=arm - bend * 0.1)  # within an arm the other way round
            pieces.append({"arm": str(arm), "seed": seed, "metrics": metrics})
    found = correlations(pieces, "kl_to_base")
    assert found["between"] == pytest.approx(1)
    assert found["all"] is not None and found["all"] > 0.9
    assert found["within"] == pytest.approx(-1)
    assert set(correlations(pieces[:3], "kl_to_base").values()) == {None}


@pytest.mark.parametrize("task", list(PARTS))
def test_every_arm_has_options_that_a_pipeline_would_take(task: str) -> None:
    arms = arms_of(task)
    assert set(arms) <= set(order_of(PARTS[task]))
    for arm in arms.values():
        Preserve.model_validate(arm.preserve)
        if arm.protection is not None:
            Protect.model_validate(arm.protection)


def test_a_contrast_has_a_share_in_its_key_alone(task: Task, tmp_path: Path) -> None:
    arm = masked("mask", "fish", 0.5, "self", form="contrast")
    assert arm.protect == {"from": ["self"], "share": 0.5, "form": "contrast", "samples": 512}
    assert arm.protection == {"from": ["self"], "form": "contrast", "samples": 512}
    other = replace(arm, protect=arm.protection)
    one, two = (PreserveBench(task, [Part([made], (1e-3,))], tmp_path) for made in (arm, other))
    assert one.key(Setting(arm.name, 0, 1e-3)) != two.key(Setting(arm.name, 0, 1e-3))


def test_what_is_claimed_is_trained() -> None:
    claimed = {name for claims in page.CLAIMS.values() for claim in claims for name in (claim.one, claim.other)}
    assert claimed <= {name.partition(": ")[2] for name in order_of(PARTS["embedded"])}


def pieces_of(folder: Path, what: str) -> list[dict[str, Any]]:
    return [piece for piece in read_latest(folder / "embedded.jsonl")[1] if piece["what"] == what]


def test_a_part_is_trained_once_with_its_mixtures(task: Task, tmp_path: Path) -> None:
    arms = [Arm("lora", "all", PRESERVE["replay + distil both"] | PRESERVE["l2"])]
    part = Part(arms, (1e-3, 5e-3), mixed=True)
    bench = PreserveBench(task, [part], tmp_path, num_seeds=0)
    assert bench.left() == 2  # by which the rate is chosen
    bench.run()
    assert bench.left() == 0
    trainings, mixed_pieces = pieces_of(tmp_path, "training"), pieces_of(tmp_path, "mixture")
    assert [(piece["seed"], piece["learning_rate"]) for piece in trainings] == [(GRID_SEED, 1e-3), (GRID_SEED, 5e-3)]
    for piece in trainings:
        assert set(piece["metrics"]) == set(METRICS) - {"reliability"}  # no trained row is judged here
        assert piece["metrics"]["kl_to_base"] > 0
    assert len(mixed_pieces) == sum(map(len, MIXTURES.values()))  # of the last rate alone
    whole = trainings[-1]["metrics"]
    for piece in mixed_pieces:
        drift = piece["metrics"]["kl_to_base"]
        assert piece["metrics"] == whole if piece["alpha"] == 1 else 0 < drift < whole["kl_to_base"]
    sequences = [bench.keeper.folder / name for name in ("sequences.jsonl", "judged.jsonl")]
    before = [path.stat().st_mtime_ns for path in sequences]
    again = PreserveBench(task, [part], tmp_path, num_seeds=0)
    assert again.left() == 0
    assert [path.stat().st_mtime_ns for path in sequences] == before


OTHERS = [
    *of_parts("full", "ewc", "text"),
    Arm("lora", "best epoch", best=True),
    Arm("lora", "FLOW", reweight={"form": "flow"}),
    Arm("lora", "half of the epochs", epochs=0.5),
    replace(masked("mask", "random", 0.5, "self"), protect={"from": ["self", "known"], "share": 0.5}),
    replace(
        masked("wide mask", "fish", 0.5, "self", form="contrast"),
        protect={"from": ["self"], "share": 0.5, "form": "contrast"},
    ),
]


def test_an_average_is_of_trainings_by_seeds_of_their_own_and_the_first_is_the_arm_alone(
    task: Task, tmp_path: Path
) -> None:
    alone, averaged = Arm("full", "plain"), Averaged("full", "plain", copies=2)
    bench = PreserveBench(task, [Part([averaged, alone], (1e-3,))], tmp_path, num_seeds=1)
    models = [bench.fitted(alone, Setting(alone.name, seed, 1e-3))[0] for seed in (0, COPY)]
    expected = bench.score(bench.judge(average_in(*models, 2)))
    bench.run()
    assert bench.left() == 0
    pieces = {(piece["arm"], piece["seed"]): piece for piece in pieces_of(tmp_path, "training")}
    assert list(pieces) == [
        ("full: plain", GRID_SEED), ("full: plain, 2 averaged", GRID_SEED),
        ("full: plain", 0), ("full: plain, 2 averaged", 0),
    ]  # fmt: skip
    one, two = pieces["full: plain", 0], pieces["full: plain, 2 averaged", 0]
    assert two["metrics"] == expected != one["metrics"]
    assert two["cpu"] > one["cpu"]


def test_a_running_mean_is_the_mean(base: Base) -> None:
    models = [base.model() for _ in range(3)]
    for number, model in enumerate(models):
        torch.nn.init.constant_(model.get_input_embeddings().weight, float(number**2))
    mean = average_in(average_in(models[0], models[1], 2), models[2], 3)
    assert torch.allclose(mean.get_input_embeddings().weight, torch.tensor(5 / 3))


@pytest.mark.parametrize("arm", OTHERS, ids=lambda arm: arm.name)
def test_every_kind_of_arm_is_trained(arm: Arm, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESERVE["ewc"]["anchor"], "samples", 4)
    bench = PreserveBench(task, [Part([arm], (1e-3,))], tmp_path)
    bench.train(Setting(arm.name, 0, 1e-3))
    (piece,) = pieces_of(tmp_path, "training")
    assert piece["steps"] == (2 if arm.epochs < 1 else 3)
    total = sum(parameter.numel() for parameter in bench.model.parameters())
    if arm.method in BUDGETS:
        assert piece["num_trainable"] == pytest.approx(BUDGETS[arm.method] * total, abs=1)
    if arm.method == "full":
        assert piece["num_trainable"] == total


def test_no_measured_fact_may_be_replayed(task: Task, tmp_path: Path) -> None:
    bench = PreserveBench(task, [], tmp_path)
    measured = set(task.material.examples["fact"])
    replayed, held_out = (set(rows["fact"]) for rows in (bench.keeper.known, bench.keeper.choice))
    assert replayed and held_out
    assert not measured & (replayed | held_out)
    assert not replayed & held_out  # a row that is replayed is right at any alpha
    quotes = Quotes(task.material.examples)
    rehearsed = read_rows(bench.keeper.folder / "sequences.jsonl")["text"]
    assert len(rehearsed) == 6
    assert not any(map(quotes.in_text, rehearsed))


def test_a_mixture_leaves_the_model_as_it_was(base: Base) -> None:
    tuned, pristine = base.model(), base.model()
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(1.0)
    name = next(iter(dict(tuned.named_parameters())))
    before = tuned.get_parameter(name).clone()
    with mixed(tuned, pristine, MIXTURES["interpolated"][0.3]) as model:
        assert torch.allclose(model.get_parameter(name), pristine.get_parameter(name) + 0.3, atol=1e-5)
    assert torch.equal(tuned.get_parameter(name), before)


def test_the_peak_counts_what_is_freed_again() -> None:
    size = 64 * 2**20
    with peak_memory() as peak:
        held = torch.ones(size, dtype=torch.uint8)
        del held
        assert peak() > 0.9 * size


@pytest.mark.parametrize(
    ("parts", "rates", "cost"),
    [
        ("replay + distil both", {"embedded": 4e-3, "stories3m-facts": 2e-3}, plain_beside("5 to 15", "50 to 53")),
        ("ewc", {"embedded": 4e-3, "stories3m-facts": 1e-3}, plain_beside("6 to 27", "23 to 51")),
        ("text", {"embedded": 4e-3}, plain_beside("1.5", "13")),
    ],
)
def test_what_new_presets_say_of_plain_runs_follows_from_the_records(
    parts: str, rates: dict[str, float], cost: str
) -> None:
    """`make new` writes these numbers beside `preserve`."""
    gaps = {"generalisation": [], "forgotten": []}
    for task, rate in rates.items():
        _, pieces = read_latest(ROOT / f"benchmarks/preserve_evidence/finished/{task}.jsonl")
        plain, kept = (
            [
                p["metrics"]
                for p in pieces
                if p.get("arm") == arm and p["learning_rate"] == rate and p["seed"] < GRID_SEED
            ]
            for arm in ("lora: plain", f"lora: {parts}")
        )
        assert len(plain) == len(kept) == 5
        for metric, values in gaps.items():
            values.append(100 * fmean(own[metric] - other[metric] for own, other in zip(plain, kept, strict=True)))
    for metric, words in zip(gaps, re.findall(r"learned (.*) points more and forgot (.*) more", cost)[0], strict=True):
        stated = [float(number) for number in words.split(" to ")]
        assert [stated[0], stated[-1]] == pytest.approx([min(gaps[metric]), max(gaps[metric])], abs=0.51)
