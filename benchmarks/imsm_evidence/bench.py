"""The trainings behind docs/evidence-imsm.md: as those of preservation, and what a trained gate lets through."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from sklearn.metrics import roc_auc_score

from benchmarks.imsm_evidence.arms import METHODS, WovenArm
from benchmarks.preserve_evidence.arms import Arm
from benchmarks.preserve_evidence.bench import PreserveBench
from knowtune.methods.base import Method
from knowtune.methods.imsm.method import Imsm, Inner
from knowtune.methods.imsm.tuner.gates import read_gates
from knowtune.text.encoded import IGNORE_INDEX
from knowtune.training.dataset import collate, encode

NUM_READ = 64  # rows, or texts, of each kind at which gates are read
QUANTILES = tuple(i / 20 for i in range(21))  # over the dimensions of a state
OFFSETS = range(-4, 4)  # tokens, counted from an answer's first
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
        """Read a learned gate where facts are told, and in texts; and whether it tells the new from the known."""
        assert isinstance(arm, WovenArm)
        if arm.woven is None or arm.woven.get("gate") == "fixed":
            return {}
        model.eval()
        read = {kind: list(self._gates(model, of)) for kind, of in KINDS.items()}
        means = {kind: [float(gate[first:].mean()) for gate, first in rows] for kind, rows in read.items()}
        is_known = [kind == "known" for kind in KINDS for _ in means[kind]]
        auc = roc_auc_score(is_known, [mean for kind in KINDS for mean in means[kind]])
        gates = {kind: summary(rows) for kind, rows in [*read.items(), ("text", list(self._in_texts(model)))]}
        return {"gates": gates, "auc": float(auc)}

    def _gates(self, model: torch.nn.Module, kind: str) -> Iterator[tuple[torch.Tensor, int]]:
        """Yield the gates of a row by which its tokens are told  # (tokens, d), and the index of the answer's first."""
        rows = self.material.examples[self.material.examples["kind"] == kind].head(NUM_READ)
        encoded = encode(self.tokenizer, rows, self.base, kind)
        batch = collate([encoded[i] for i in range(len(encoded))], self.base.task)
        inputs = {key: value for key, value in batch.items() if key != "index"}
        gates = read_gates(model, **inputs)[:, :-1]  # a token is told by the state one token earlier
        for gate, labels, seen in zip(gates, inputs["labels"][:, 1:], inputs["attention_mask"][:, :-1], strict=True):
            answer = (labels != IGNORE_INDEX).nonzero().flatten()
            begin = int(seen.bool().nonzero()[0])
            yield gate[begin : int(answer[-1]) + 1], int(answer[0]) - begin

    def _in_texts(self, model: torch.nn.Module) -> Iterator[tuple[torch.Tensor, int]]:
        for text in self.material.texts["text"].head(NUM_READ):
            given = self.tokenizer(text, truncation=True, max_length=self.material.max_tokens, return_tensors="pt")
            yield read_gates(model, input_ids=given["input_ids"], labels=given["input_ids"])[0], 0


def summary(rows: Sequence[tuple[torch.Tensor, int]]) -> dict[str, Any]:
    """Give the mean gate over answers' tokens, its quantiles over dimensions, and its means by token.

    Args:
        rows: of each the gates  # (tokens, d), and the index of the answer's first token.

    Returns:
        mean, quantiles at QUANTILES, and tokens: offset from the answer's first -> mean over rows that have it.
    """
    over_tokens = torch.cat([gate[first:] for gate, first in rows]).mean(0)  # (d,)
    tokens = {}
    for offset in OFFSETS:
        own = [gate[first + offset].mean() for gate, first in rows if 0 <= first + offset < len(gate)]
        if 2 * len(own) > len(rows):
            tokens[str(offset)] = float(torch.stack(own).mean())
    quantiles = over_tokens.quantile(torch.tensor(QUANTILES)).tolist()
    return {"mean": float(over_tokens.mean()), "quantiles": quantiles, "tokens": tokens}
