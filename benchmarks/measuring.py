"""Times of steps that take turns, and the memory that work takes; several benchmarks measure by these."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

UNTIMED = 2  # first rounds, in which caches fill


def take_turns(steps: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Run all steps once a round, so that a busy machine slows all of them; return the seconds of each.

    Args:
        steps: name -> what is timed.
        rounds: that are timed, after `UNTIMED` that are not.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + UNTIMED):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if number >= UNTIMED:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(seconds: Mapping[str, Sequence[float]], one: str, other: str) -> float:
    """Return the median over rounds of what one step takes beside another in the same round."""
    return statistics.median(mine / its for mine, its in zip(seconds[one], seconds[other], strict=True))


def number_of_child(arguments: Sequence[str]) -> int:
    """Run Python with arguments in a process of its own; return the number that its last line ends with.

    glibc keeps freed blocks, which hides what steps take; so tensors get maps of their own there, returned when freed.
    """
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return int(done.stdout.split()[-1])


def machine() -> str:
    """Name the machine that measures: its cores and its processor."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} x {names[0] if names else platform.machine()}"


@contextmanager
def peak_memory() -> Iterator[Callable[[], int]]:
    """Give a function that says how many bytes the work inside the context has taken at most.

    What freed blocks of before can serve for is given back first, or it would be counted as nothing. What is mapped
    from files, weights and code, is not counted.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before, mapped = resident("VmRSS"), resident("RssFile")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    yield lambda: max(resident("VmHWM") - before - (resident("RssFile") - mapped), 0)


def resident(key: str) -> int:
    """Return a figure of the process's memory in bytes: VmRSS now, VmHWM at its peak, RssFile mapped from files."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024
