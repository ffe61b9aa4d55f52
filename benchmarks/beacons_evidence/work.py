"""The list of work: damage, filter, weight, train, judge; each finished piece is a line, so that a killed run goes on.

Damage is planted with the seed of the training, so that its lot is part of the spread over seeds. A method's learning
rate is chosen on validation rows, on undamaged rows without filter and weights, with a seed that no result has.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.beacons_evidence.arms import ARMS, FILTERS, GRID, METHODS, RATES, SKETCH, WEIGHTINGS, Arm
from benchmarks.selection_evidence.materials import Material
from benchmarks.selection_evidence.results import GRID_SEED
from benchmarks.selection_evidence.work import BATCH, ITEM_COLUMNS, SEEDS, Store
from knowtune.artefacts import read_rows, text_digest
from knowtune.contract import ROW_COLUMNS
from knowtune.damage import PLANTED_COLUMNS, plant
from knowtune.families import MaskedMethod, Seen, member_class
from knowtune.filtering import run_filters
from knowtune.filters import FILTERS as REGISTRY
from knowtune.leaderboard import Results, beside_base, compute_metrics
from knowtune.methods import METHODS as METHOD_REGISTRY
from knowtune.pools import ModelPool
from knowtune.representations.input_embedding import InputEmbedding
from knowtune.selectors.fish import Fish
from knowtune.training import encode, fit, seed_everything


@dataclass(frozen=True)
class Setting:
    """What tells one training from another within a task."""

    method: str
    filter: str
    weighting: str
    wrong: float
    seed: int
    learning_rate: float
