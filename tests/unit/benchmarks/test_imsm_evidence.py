"""The page on IMSM: arms are trained and their gates read, and made-up pieces become verdicts."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.evidence.store import Store, read_latest
from benchmarks.imsm_evidence import page
from benchmarks.imsm_evidence.arms import BOTH, METHODS, PARTS, RATES, WovenArm, alone, woven
from benchmarks.imsm_evidence.bench import QUANTILES, ImsmBench
from benchmarks.imsm_evidence.texts import CLAIMS
from benchmarks.preserve_evidence.arms import Part, order_of
from benchmarks.preserve_evidence.bench import Setting
from benchmarks.preserve_evidence.materials import Task
from tests.unit.benchmarks.test_preserve_evidence import BASE, PLAIN, SELF, trained

RATE = 3e-2  # in a few steps AdaLoRA moves by no less
ARMS = [
    *woven("lora", "woven", "woven, fast gate without query", "woven, without gate"),
    *woven("lora", "woven, fast gate", parts=BOTH),
    *(arm for method in ("kasa", "ia3", "dora", "adalora") for arm in woven(method, "woven, fast gate")),
    *alone("kasa", "plain"),
    *alone("adalora", "plain"),
]


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_an_arm_is_trained_and_its_gate_is_read(arm: WovenArm, task: Task, tmp_path: Path) -> None:
    bench = ImsmBench(task, [Part([arm], (RATE,))], tmp_path)
    bench.train(Setting(arm.name, 0, RATE))
    (piece,) = [each for each in read_latest(tmp_path / "embedded.jsonl")[1] if each["what"] == "training"]
    assert piece["metrics"]["kl_to_base"] > 0
    learned = arm.woven is not None and arm.woven.get("gate") != "fixed"
    assert ("gates" in piece) == learned
    assert set(piece.get("gates", {})) == ({"new", "known", "text"} if learned else set())
    for gate in piece.get("gates", {}).values():
        assert len(gate["quantiles"]) == len(QUANTILES)
        assert 0 < gate["quantiles"][0] <= gate["mean"] <= gate["quantiles"][-1] < 1
        assert gate["quantiles"] == sorted(gate["quantiles"])
        assert all(0 < gate["tokens"][at] < 1 for at in ("0", "1"))
    assert 0 <= piece.get("auc", 0) <= 1


def test_every_claim_is_of_arms_that_are_trained() -> None:
    trained_parts = {name.partition(": ")[2] for name in order_of(PARTS["embedded"], METHODS)}
    assert {name for claim in CLAIMS for name in (claim.one, claim.other)} <= trained_parts
    for task, rates in RATES.items():
        assert {arm.method for part in PARTS[task] for arm in part.arms} == set(rates)


def test_the_page_holds_woven_adapters_against_the_same_alone(tmp_path: Path) -> None:
    store = Store(tmp_path, "embedded")
    sizes = {"rows": 9, "items": {"locality": 3}, "texts": 2, "steps": 4, "batch_size": 2, "kept": {"self": 5}}
    store.add({"what": "base", "key": "base", "identity": "a", "metrics": BASE, "sizes": sizes})
    for method in ("lora", "kasa", "ia3"):
        for piece in trained(f"{method}: plain", PLAIN):
            store.add(piece)
        for piece in trained(f"{method}: woven, fast gate", SELF):
            gate = {"mean": 0.25, "quantiles": list(QUANTILES), "tokens": {"-1": 0.5, "0": 0.2}}
            store.add(piece | {"gates": dict.fromkeys(("new", "known", "text"), gate), "auc": 0.75})
    (tmp_path / "images").mkdir()
    page.write_page(tmp_path, tmp_path)
    text = (tmp_path / "evidence-imsm.md").read_text(encoding="utf-8")
    effects = [f"embedded, {method} **-" for method in ("lora", "kasa", "ia3")]
    (claim,) = [line for line in text.splitlines() if line.startswith("| woven by a fast gate it is |")]
    learned, lost = claim.split(" | ")[1:]
    assert learned.startswith("**contradicted**: 0 wins, 3 losses, 0 undecided<br>")
    assert lost.startswith("**supported**: 3 wins, 0 losses, 0 undecided<br>")
    assert all(effect in column for effect in effects for column in (learned, lost))
    assert "| embedded | lora: woven, fast gate | known | 0.25 | 0.00 | 0.50 | 1.00 | 0.75 ± 0.00 |" in text
    (cost,) = [line for line in text.splitlines() if line.startswith("| kasa: woven, fast gate takes less than")]
    assert "| **too few comparisons**: 0 wins, 0 losses, 1 undecided<br>embedded × 1.00 ± 0.00 |" in cost
    assert "- No woven arm reaches it" not in text  # asked of the larger task alone
    assert (tmp_path / "images" / "evidence-imsm-gates.svg").stat().st_size > 10_000


def test_the_nearest_arms_are_named_where_none_learns_and_keeps_enough(tmp_path: Path) -> None:
    def lines_of(name: str, kept: float) -> list[str]:
        store = Store(tmp_path / name, "stories3m-facts")
        store.add({"what": "base", "key": "base", "identity": "a", "metrics": BASE})
        for arm, points in {"plain": PLAIN, "woven": {1.0: (0.6, 0.4), 2.0: (0.5, kept)}}.items():
            for piece in trained(f"lora: {arm}", points):
                store.add(piece)
        return list(page.target(page.results_in(tmp_path / name)))

    asked, none, enough, keeps = lines_of("none", 0.0)
    assert asked.endswith("Plain LoRA learns most at 2: 60.1 % learned, 50.1 % forgotten.")
    assert none == "- No woven arm reaches it at any rate."
    assert enough == "- Of those that learn enough, lora: woven at 1 forgets least: 60.1 % learned, 40.1 % forgotten."
    assert keeps == "- Of those that keep enough, lora: woven at 2 learns most: 50.1 % learned, 0.1 % forgotten."
    assert len(lines_of("little", 0.3)) == 3  # nothing keeps enough
