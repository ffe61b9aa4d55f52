"""The end of a reproduction, for those who know when it is: wait until everything is recorded, and say where.

Whatever happens to tracking, the command has the pipeline's exit code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from knowtune.common.files import whole
from knowtune.common.secrets import mask
from stages.tracking.paths import room
from stages.tracking.reproduction import VARIABLE, marker, own_key, word_file
from stages.tracking.spool import pending_notes
from stages.tracking.wake import start_tracker

PATIENCE = 120.0  # seconds while notes are being read; what is left is recorded in the background
STANDSTILL = 30.0  # seconds in which no note is read
WORD = 3.0  # seconds until the wait is spoken of
STARTS = 3  # of a tracker that ends without a word
LATER = "what is left is recorded in the background"


def drain(folder: Path, timeout: float = PATIENCE, code: int = 0) -> None:
    """Close the reproduction that this process is the root of, wait until it is recorded, print where to look.

    Ctrl-C ends the wait, nothing else.

    Args:
        folder: the project or workspace that was reproduced.
        timeout: seconds to wait at most; the tracker goes on in the background.
        code: DVC's exit code; the parent run is FAILED unless it is 0, KILLED when it is that of Ctrl-C.
    """
    try:
        key = own_key()
        if os.environ.get(VARIABLE, key) != key or not marker(key).is_file():
            return  # another process is the root, or no stage was tracked
        _close(key, folder, code)
        _wait(key, timeout)
        _tell(key)
    except KeyboardInterrupt:
        print(f"tracking: {LATER}", file=sys.stderr)
    except Exception as error:  # a full disk, say
        print(f"tracking: {mask(f'{type(error).__name__}: {error}')}; {LATER}", file=sys.stderr)


def _close(key: str, folder: Path, code: int) -> None:
    """Hand in the last note; a store that did not answer before is given one more try."""
    word_file(key).unlink(missing_ok=True)
    closing = {"reproduction": key, "code": code, "ended": time.time(), "cwd": str(folder.resolve())}
    path = room() / "spool" / f"{int(closing['ended'] * 1e6)}-{os.getpid()}.closed.json"  # type: ignore[operator]
    with whole(path) as part:
        part.write_text(json.dumps(closing), encoding="utf-8")


def _wait(key: str, timeout: float) -> None:
    """Wait for the tracker's word, as long as it reads notes."""
    begun = moved = time.monotonic()
    left, spoken = -1, False
    trackers: list[subprocess.Popen[bytes]] = []
    while not word_file(key).is_file():
        now = time.monotonic()
        if (count := len(pending_notes(key))) != left:
            left, moved = count, now
        if now - begun > timeout or now - moved > STANDSTILL:
            break
        if now - begun > WORD and not spoken:
            print(f"tracking: {left} notes are still being recorded; Ctrl-C leaves that to the background", flush=True)
            spoken = True
        if all(tracker.poll() is not None for tracker in trackers):
            if len(trackers) == STARTS:
                break
            trackers += [started] if (started := start_tracker()) else []
        time.sleep(0.1)
    for tracker in trackers:
        tracker.returncode = 0  # nobody waits for it any more


def _tell(key: str) -> None:
    """Print where the run is, or why it is not there (yet)."""
    log = os.path.relpath(room() / "log")
    if not word_file(key).is_file():
        print(f"tracking: {len(pending_notes(key))} notes are not recorded yet; {LATER}; log: {log}", file=sys.stderr)
        return
    word: dict[str, Any] = json.loads(word_file(key).read_text(encoding="utf-8"))
    word_file(key).unlink(missing_ok=True)
    for line in word["lines"]:
        print(f"tracking: {line}", file=sys.stderr)
    if "error" in word:
        print(f"tracking: {word['error']}; details: {log}", file=sys.stderr)
        return
    where = "`make serve` shows it" if word["uri"].startswith("sqlite") else word["uri"]
    print(f"tracked: experiment {word['experiment']}, run {word['name']!r}; {where}")
