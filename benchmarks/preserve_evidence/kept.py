"""What a task's trainings read beside its rows: made once, in a folder where a killed run goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.evidence.bench import BATCH
from benchmarks.preserve_evidence.materials import Task
from knowtune.preserve.fisher_file import FILE, write_fisher
from knowtune.preserve.known_rows import split_by_base
from knowtune.preserve.options import Preserve
from knowtune.preserve.preservation import Preservation, open_preservation
from knowtune.preserve.rehearse import Rehearsing, rehearse
from knowtune.preserve.sources import SEQUENCES, make_material, read_source

MAX_TEXT_TOKENS = 32  # of a replayed text: about as many as a sequence of the base has
CHOICE = 0.2  # share of the known facts by which an alpha is chosen: a replayed row is right at any


class Keeper:
    """The sources of a task.

    Attributes:
        material: known rows that the base has right, texts and sequences.
        choice: known rows of other facts, by which an alpha is chosen.
    """

    def __init__(self, task: Task, model: torch.nn.Module, folder: Path) -> None:
        """Judge known rows, and let the base write, where it has not done so already."""
        self.task, self.base, self.folder = task, task.material.base, folder
        folder.mkdir(parents=True, exist_ok=True)
        known, _ = split_by_base(task.known, self.base, model, BATCH, folder)
        facts = known["fact"].drop_duplicates()
        held_out = known["fact"].isin(facts.iloc[: math.ceil(CHOICE * len(facts))])
        self.choice, self.known = (known[of].reset_index(drop=True) for of in (held_out, ~held_out))
        if not (folder / SEQUENCES).is_file():
            work, out = folder / "work", folder / "out"
            for path in (work, out):
                path.mkdir(exist_ok=True)
            rehearse(Rehearsing(self.base, task.rehearsal, self.known, task.material.examples), model, work, out)
            (out / SEQUENCES).rename(folder / SEQUENCES)
        tables = {"known": self.known, "text": task.texts, "self": read_source("self", folder / SEQUENCES)}
        self.material = make_material(self.base, tables, MAX_TEXT_TOKENS, folder)

    def sizes(self) -> dict[str, int]:
        """Count the sequences of each source."""
        return {source: len(rows) for source, rows in self.material.sequences.items()}

    def preservation(self, preserve: Mapping[str, Any], seed: int, label: str) -> Preservation | None:
        """Prepare what a run does against forgetting; the base's Fisher information is taken once for all runs."""
        options = Preserve.model_validate(preserve)
        if options.anchor is not None and options.anchor.form == "ewc" and not (self.folder / FILE).is_file():
            write_fisher(self.base, self.material, options.anchor, self.folder, work=self.folder / "fisher-work")
        return open_preservation(options, self.material, self.base, seed, label)

    def share_right(self, model: torch.nn.Module) -> float:
        """Judge known rows that the base has right, and that neither measure nor are replayed."""
        rows, tokenizer = self.choice, self.base.tokenizer()
        judged = self.base.task.evaluator.judge(model, tokenizer, rows, BATCH, "known rows of the choice")
        return float(judged["correct"].mean())
