"""The tasks, and what of each may be replayed: known facts, general texts, sequences that the base writes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.evidence.materials import Material, embedded, read_pararel
from knowtune.common.files import read_rows, text_digest
from knowtune.data.contract import ROW_COLUMNS, ROWS, TEXTS, check
from knowtune.data.prepare import Limits, prepare
from knowtune.data.replay import Spare
from knowtune.preserve.options import Rehearsal

NUM_KNOWN, NUM_TEXTS, NUM_SEQUENCES = 2000, 500, 2048  # that are replayed, at most
METRICS = ("generalisation", "reliability", "forgotten", "text_drift", "known", "kl_to_base", "kl_to_base_prompts")


@dataclass(frozen=True)
class Task:
    """A task, and what may be replayed; nothing of it measures.

    Args:
        material: what is learned and measured.
        known: rows of facts that the base may know.
        texts: general texts.
        rehearsal: how the base writes sequences.
    """

    material: Material
    known: pd.DataFrame
    texts: pd.DataFrame
    rehearsal: Rehearsal

    def described(self) -> dict[str, Any]:
        """Say what numbers depend on, beside an arm's own settings."""
        kept = [self.known["id"].tolist(), self.texts["id"].tolist(), self.rehearsal.model_dump()]
        return {**self.material.described(), "max_tokens": self.material.max_tokens, "kept": text_digest(kept)}


def of_project(project: Path) -> Task:
    """Read base and tables of a project in which `prepare` has run; half of the known facts may be replayed."""
    prepared = project / "data" / "prepared"
    known = check(read_rows(prepared / "replay.jsonl", ROW_COLUMNS), ROWS, "replay")
    texts = check(read_rows(prepared / "replay_texts.jsonl", ["id", "text"]), TEXTS, "replay texts")
    material = replace(embedded(project), metrics=METRICS, epochs=10)
    rehearsal = Rehearsal(sequences=NUM_SEQUENCES, max_tokens=24)
    return Task(material, known.iloc[:NUM_KNOWN], texts.iloc[:NUM_TEXTS], rehearsal)


def stories(data: Path) -> Task:
    """Take new ParaRel facts for the story model that knows others; half of those may be replayed."""
    base, raw = read_pararel(data, replay_text=data / "text" / "tinystories.jsonl")
    both = raw.replay_texts["text"].isin(raw.texts["text"])  # the held-out stories are some of the others' file
    raw = replace(raw, replay_texts=raw.replay_texts[~both])
    spare = Spare(known=0.5, max_known=NUM_KNOWN, max_texts=NUM_TEXTS)
    limits = Limits(seed=0, max_facts=300, max_known=800, max_texts=40, max_examples=None, max_rejected=0.01,
                    replay=spare)  # fmt: skip
    prepared = prepare(raw, base, limits, {})
    material = Material(
        name="stories3m-facts", base=base, rows=prepared.train, validation=prepared.validation,
        examples=prepared.test, texts=prepared.retention, metrics=METRICS, epochs=8, batch_size=16, ird_from=None,
        max_tokens=160,
    )  # fmt: skip
    rehearsal = Rehearsal(sequences=NUM_SEQUENCES, max_tokens=32)
    return Task(material, prepared.replay, prepared.replay_texts, rehearsal)


def task(name: str, project: Path, data: Path) -> Task:
    """Load a task by its name."""
    return of_project(project) if name == "embedded" else stories(data)
