"""The largest memory that a piece of work takes, of this process."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def peak_memory() -> Iterator[Callable[[], int]]:
    """Give a function that says how many bytes the work inside the context has taken at most.

    What freed blocks of before can serve for is given back first, or it would be counted as nothing.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    yield lambda: max(resident("VmHWM") - before, 0)


def resident(key: str) -> int:
    """Return a figure of the process's memory in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024
