"""Warnings of PEFT that are false alarms here."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# What PEFT warns of and is well: experts that are no modules, GPT-2's layers, tied weights, which folding
# unties; and what is an error here.
ALARMS = (
    "The following (rank|alpha)_pattern keys did not match any targeted module",
    "fan_in_fan_out is set to False but the target module is `Conv1D`",
    "Model has `tie_word_embeddings=True` and a tied layer is part of the adapter",
    "You have passed exclude_modules=.* but no modules were excluded",
    "Setting `save_embedding_layers` to `True` as embedding layers found in `target_modules`",
    "Found missing adapter keys while loading the checkpoint",
)


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Leave out false alarms."""
    with warnings.catch_warnings():
        for message in ALARMS:
            warnings.filterwarnings("ignore", message=message)
        yield
