"""Progress: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(items: Sequence[T], label: str, every: float = 10.0) -> Iterator[T]:
    """Yield the items and show how far one is.

    Args:
        items: what is worked through.
        label: what the bar says.
        every: seconds between plain lines where standard error is no terminal.
    """
    if len(items) > 1 and sys.stderr.isatty():  # one alone is not worth a bar, which may stand below another
        yield from tqdm(items, desc=label, leave=False)
        return
    begin = last = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last > every:
            last = time.monotonic()
            left = (last - begin) / number * (len(items) - number)
            print(f"{label}: {number} of {len(items)}, {left:.0f} s left", file=sys.stderr, flush=True)


def progress_unsized(items: Iterable[T], label: str, every: float = 10.0) -> Iterator[T]:
    """Yield items whose number is not known, and show how many there were so far."""
    last = time.monotonic()
    with tqdm(items, desc=label, leave=False, disable=not sys.stderr.isatty()) as bar:
        for number, item in enumerate(bar):
            yield item
            if bar.disable and time.monotonic() - last > every:
                last = time.monotonic()
                print(f"{label}: {number + 1:,} rows", file=sys.stderr, flush=True)
