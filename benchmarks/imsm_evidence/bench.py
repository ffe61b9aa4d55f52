"""The trainings behind docs/evidence-imsm.md: as those of preservation, and what a trained gate lets through."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.imsm_evidence.arms import METHODS, WovenArm
from benchmarks.preserve_evidence.arms import Arm
from benchmarks.preserve_evidence.bench import PreserveBench
from knowtune.methods.base import Method
from knowtune.methods.imsm.method import Imsm, Inner
from knowtune.methods.imsm.tuner.gates import read_gates
from knowtune.text.encoded import IGNORE_INDEX
from knowtune.training.dataset import collate, encode

NUM_READ = 64  # rows, or texts, of each kind at which gates are read
QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)  # over the dimensions of a state
KINDS = {"new": "generalisation", "known": "locality"}  # what is read -> kind of evaluation examples


class ImsmBench(PreserveBench):
    """All the work of one task."""

    methods = METHODS

    def method(self, arm: Arm) -> Method:
        """Make an adapter's method, and weave it where the arm says so."""
        assert isinstance(arm, WovenArm)
        if arm.woven is None:
            return super().method(arm)
        name, options = self.methods[arm.method]
        inner = {key: value for key, value in options.items() if key != "type"}
        return Imsm(inner=Inner(method=name, type=options.get("type"), options=inner), **arm.woven)

    def look(self, arm: Arm, model: torch.nn.Module) -> dict[str, Any]:
        """Read a learned gate where facts are told, and in texts: its mean over tokens, by quantiles of dimensions."""
        assert isinstance(arm, WovenArm)
        if arm.woven is None or arm.woven.get("gate") == "fixed":
            return {}
        model.eval()
        at = torch.tensor(QUANTILES)
        gates = {kind: torch.cat(list(of)).mean(0) for kind, of in self._gates(model)}  # (d,)
        return {"gates": {kind: [float(gate.mean()), *gate.quantile(at).tolist()] for kind, gate in gates.items()}}

    def _gates(self, model: torch.nn.Module) -> Iterator[tuple[str, Iterator[torch.Tensor]]]:
        """Yield what is read, and its gates  # (tokens, d)."""
        examples = self.material.examples
        for name, kind in KINDS.items():
            rows = examples[examples["kind"] == kind].head(NUM_READ)
            encoded = encode(self.tokenizer, rows, self.base, name)
            batch = collate([encoded[i] for i in range(len(encoded))], self.base.task)
            yield name, self._at_targets(model, batch)
        yield "text", self._in_texts(model)

    def _at_targets(self, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> Iterator[torch.Tensor]:
        inputs = {key: value for key, value in batch.items() if key != "index"}
        told = inputs["labels"][:, 1:] != IGNORE_INDEX  # by the states one token earlier
        yield read_gates(model, **inputs)[:, :-1][told]

    def _in_texts(self, model: torch.nn.Module) -> Iterator[torch.Tensor]:
        for text in self.material.texts["text"].head(NUM_READ):
            given = self.tokenizer(text, truncation=True, max_length=self.material.max_tokens, return_tensors="pt")
            yield read_gates(model, input_ids=given["input_ids"], labels=given["input_ids"])[0]
