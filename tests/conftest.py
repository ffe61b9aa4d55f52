"""One thread for all tests: spinning threads slow each other on a machine that others use too (docs/decisions/0009)."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is first imported, here and in the processes that tests start
