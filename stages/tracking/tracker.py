"""The tracker: one process per store that turns stages' notes into MLflow runs; nobody else imports MLflow.

The first stage of a reproduction starts the one of its store, with its own environment: so the store's password is
there and need be written nowhere, and a store that does not answer holds no other one up. A tracker ends when every
reproduction's root is gone, or has closed its own, and no note is left; or when its store does not answer. Whatever
ends it, the notes stay, and the next tracker goes on with them. When its own store's work is done, it looks after what
waits for others.
"""

from __future__ import annotations

import os
import sys
import time

from knowtune.common.secrets import HIDDEN, mask_output
from stages.tracking.addresses import lock_of, name_of
from stages.tracking.paths import hold_lock
from stages.tracking.reader import TRIES, Reader
from stages.tracking.reproduction import is_alive, markers, read_marker

STEP_BACK = 15  # niceness: what is trained comes first
SECRETS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_URI")


def serve(store: str, tries: int = TRIES) -> int:
    """Work alone on a store; a note handed in just when the last round was over is read too."""
    while True:
        with hold_lock(lock_of("tracker", store), wait=False) as alone:
            if not alone:
                return 0
            print(f"tracker {os.getpid()} starts: {store}", flush=True)
            reader = Reader(store, tries)
            reader.work()
            print(f"tracker {os.getpid()} ends after {time.process_time():.1f} s of CPU", flush=True)
        if reader.failures:
            return 1
        if not reader.notes():
            return 0


def others() -> set[str]:
    """Name the other stores that something waits for; whose password is not here, and who still runs, see to it."""
    stores = set()
    for path in markers():
        try:
            opened = read_marker(path)
        except (OSError, ValueError):
            continue
        if not is_alive(opened["key"]) and HIDDEN not in opened["uri"]:
            stores.add(str(opened["uri"]))
    return stores


def main() -> int:
    """See to this process's own store, then to the others."""
    os.nice(STEP_BACK)
    mask_output()
    own = name_of()
    code = serve(own)
    for name in SECRETS:
        os.environ.pop(name, None)  # they are this store's, and no other one's to see
    for store in sorted(others() - {own}):
        serve(store, tries=1)
    return code


if __name__ == "__main__":
    sys.exit(main())
