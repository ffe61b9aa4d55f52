"""What the arms cost, by short trainings that take turns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from benchmarks.measuring import machine, peak_memory
from benchmarks.methods_evidence.arms import FULL
from benchmarks.methods_evidence.bench import MethodsBench, Setting
from knowtune.training.fit import seed_everything

COST_STEPS, ROUNDS = 12, 5


class CostsBench(MethodsBench):
    """The work of one task, whose costs can be compared as well."""

    def compare_costs(self) -> None:
        """Let short trainings of arms take turns, so that a busy machine slows all of them; a round is a piece."""
        is_warm = False
        for number, names in self.rounds():
            keys = {name: self.key(["cost", number, asdict(self.arms[name])]) for name in names}
            if set(keys.values()) <= self.store.records.keys():
                continue
            for name in () if is_warm else names:
                self.short_training(name, number)  # the first of all loads code
            is_warm = True
            costs = {name: self.short_training(name, number) for name in names}
            for name, cost in costs.items():
                self.add("cost", keys[name], arm=name, seed=number, **cost, machine=machine())
            print(f"{self.material.name}: costs, round {number + 1}", flush=True)

    def rounds(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each round's number and arms; full fine-tuning has rounds of its own, beside LoRA and KaSA alone."""
        for number in range(ROUNDS):
            yield number, [name for name in self.arms if name != FULL]
        for number in range(ROUNDS, 2 * ROUNDS) if FULL in self.arms else ():
            yield number, ["LoRA", "KaSA", FULL]

    def short_training(self, name: str, seed: int) -> dict[str, Any]:
        """Attach an arm and train it for a few steps; return what that took, of each step."""
        method, num_rows = self.method(self.arms[name]), len(self.material.rows)
        seed_everything(seed)
        recipe = self.material.recipe(num_rows, 1e-4)
        recipe = recipe.with_changes({"epochs": recipe.epochs * (COST_STEPS - 0.5) / (self.material.steps - 0.5)})
        with peak_memory() as peak:
            model = method.attach(self.base.model())
            setting = Setting(name, seed, 1e-4)
            fitted, cpu, _ = self.fit(model, self.encoded, method, setting, num_rows, recipe)
            memory = peak()
        return {"cpu": cpu / fitted.num_steps, "memory": memory, "num_trainable": fitted.num_trainable}
