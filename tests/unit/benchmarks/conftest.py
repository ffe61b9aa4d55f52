"""A task for a base of a few facts, as benchmarks of evidence have it."""

from __future__ import annotations

import pandas as pd
import pytest

from benchmarks.evidence.materials import Material
from benchmarks.preserve_evidence.materials import METRICS, Task
from knowtune.checkpoints.base import Base
from knowtune.preserve.options import Rehearsal
from tests.unit.helpers import fact_rows


@pytest.fixture
def task(base: Base) -> Task:
    """Give a task for a base that knows the first twelve rows."""
    rows = fact_rows()
    measured, known, new = (rows.iloc[of].reset_index(drop=True) for of in (slice(6), slice(6, 12), slice(12, None)))
    examples = pd.concat([new.assign(kind="generalisation"), measured.assign(kind="locality")], ignore_index=True)
    material = Material(
        name="embedded", base=base, rows=new, validation=new.iloc[:4], examples=examples,
        texts=pd.DataFrame({"id": ["a"], "text": ["The hat of Ada is red"]}, dtype="str"),
        metrics=METRICS, epochs=2, batch_size=8, ird_from=None, max_tokens=32,
    )  # fmt: skip
    texts = pd.DataFrame({"id": ["b"], "text": ["Finn lives in Rome and Gus in Oslo"]}, dtype="str")
    return Task(material, known, texts, Rehearsal(sequences=6, max_tokens=8))
