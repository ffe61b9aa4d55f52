"""The tasks, as the page on KaSA and SK-Tuning has them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.evidence.materials import Material, material

CONTEXT = 128  # tokens that the encoder may read: its longest row, and virtual tokens before it


def material_of(name: str, project: Path, data: Path) -> Material:
    """Load a task by its name; a classifier's is one epoch, since a training may take a minute."""
    made = material(name, project, data)
    if name != "sst2":
        return made
    return replace(made, epochs=1, base=replace(made.base, card={**made.base.card, "context": CONTEXT}))
