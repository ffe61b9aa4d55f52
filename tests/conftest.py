"""One thread for all tests: spinning threads slow each other on a machine that others use too (docs/decisions/0009)."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is first imported, here and in the processes that tests start
gc.disable()  # while libraries are imported and tests collected, which makes no garbage worth the search: a third of it


def pytest_collection_finish() -> None:
    """Search for garbage again, but not in what has been loaded by now."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def warm() -> Iterator[dict[str, str]]:
    """Give the way to one warm process for all pipelines of this session: each would import for seconds."""
    from stages.runner.warm import warm_process

    with warm_process(Path(__file__).resolve().parents[1]) as environment:
        yield environment
