"""The champion, measured again where the project lies now: by the stage that evaluates a run, outside of DVC."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.common.errors import UserError
from knowtune.common.files import read_card, read_rows
from stages.core.pipeline import read_stages
from stages.tracking.reproduction import OFF, VARIABLE

if TYPE_CHECKING:
    from stages.tracking.fetching import Fetched


def evaluate(folder: Path, found: Fetched, recorded: Mapping[str, Any], top: Path) -> Path:
    """Evaluate the champion.

    Args:
        folder: the project's or a workspace's.
        found: the champion, as the registry has it.
        recorded: its card in `champion/`.
        top: an empty folder to work in.

    Returns:
        The folder of results.

    Raises:
        UserError: it cannot be evaluated; says why, in the stage's words.
    """
    merged = top / "merged"
    merged.mkdir()
    (merged / f"seed-{recorded['seed']}").symlink_to(found.model.resolve())
    stages = read_stages(folder)
    outs = {Path(out).stem: out for out in stages["prepare"].outs}
    baseline = str(Path(stages["baseline"].outs[0]).parent)
    places = {
        "--name": recorded["run"],
        "--merged": str(merged),
        "--base": stages["base"].outs[0],
        "--test": outs["test"],
        "--retention": outs["retention"],
        "--baseline": baseline,
        "--out": str(top / "evaluated"),
    }
    absent = [path for path in (*outs.values(), stages["base"].outs[0], baseline) if not (folder / path).exists()]
    if absent:
        raise UserError(f"{absent[0]}: is not here; `dvc pull` or `make run` brings what a model is evaluated with")
    command = [sys.executable, "-m", "stages.evaluate", *(word for pair in places.items() for word in pair)]
    environment = {**os.environ, VARIABLE: OFF}
    done = subprocess.run(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"{found.version.uri} cannot be measured: {done.stderr.strip().rpartition(chr(10))[2]}")
    return top / "evaluated"


def base_digest(folder: Path) -> str:
    """Read the digest of the base that lies in a folder now."""
    return str(read_card(folder / read_stages(folder)["base"].outs[0] / "base.json", {"digest": str})["digest"])


def other_examples(folder: Path, results: Path) -> tuple[int, int]:
    """Count the examples to be learned that results do not have, and those that only the results have."""
    test = next(out for out in read_stages(folder)["prepare"].outs if Path(out).stem == "test")
    now, measured = read_rows(folder / test), set(read_rows(results)["id"])
    ids = set(now[now["kind"] != "locality"]["id"])
    return len(ids - measured), len(measured - ids)
