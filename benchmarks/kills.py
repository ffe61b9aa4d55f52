"""Kill -9 at random points of every stage and of the flow, then the same command again: are all results the same?

    python -m benchmarks.kills                # 20 kills in a small project; about 15 minutes on two quiet cores
    python -m benchmarks.kills --seed 1       # other points
    python -m benchmarks.kills --only 3,19    # those repetitions alone, at the same points

A small project (that of the tests of flows, with tracking) is run once from nothing, undisturbed. Then for each
repetition a fresh copy of its inputs is started and killed at a random point: each stage once in `cli run`, at a random
share of the time that it took undisturbed; the rest in the flow with two workers, at a random share of the whole, the
flow's process alone or with all that it has started. Then the same command is given again, with --wait, until it ends
well. A repetition counts when every file below data/ and every entry of dvc.lock is that of the undisturbed run, byte
for byte, and MLflow holds every stage that DVC has run to its end, each once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from ruamel.yaml import YAML

from stages.core.pipeline import read_stages
from tests.flows.conftest import copy_small
from tests.pipeline.conftest import ENVIRONMENT, Project

NUMBER = 20
AGAIN = 3  # times that the command is given again, at most
RUN = ("cli", "run", "--wait")
FLOW = ("flows", "--workers", "2", "--wait")
RECORDED = """
import json, sys, warnings
warnings.simplefilter("ignore")
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
(experiment,) = [e for e in client.search_experiments() if e.name == "knowtune"]
runs = client.search_runs([experiment.experiment_id], "tags.kind = 'stage'", max_results=5000)
print(json.dumps([[r.data.tags["dvc.stage"], r.info.status, r.data.tags["entry"]] for r in runs]))
"""


@dataclass(frozen=True)
class Kill:
    """One kill to come: of a stage in `cli run`, or of the flow ("" as the stage), at a share of its time.

    All of it: the warm process with the stage, or whatever the flow has started with the flow.
    """

    stage: str
    share: float
    all_of_it: bool

    def __str__(self) -> str:
        rest = "and the warm process " if self.stage else "and all it has started "
        return f"{self.stage or 'the flow'} {rest if self.all_of_it else ''}at {self.share:.0%}"


def main() -> int:
    """Run undisturbed, then kill and run again; print what came out.

    Returns:
        0 when every repetition ended with equal results.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=NUMBER, help="of kills")
    parser.add_argument("--seed", type=int, default=0, help="of the random points")
    parser.add_argument("--only", default="", metavar="N,N", help="these repetitions alone")
    args = parser.parse_args()
    only = [int(number) for number in args.only.split(",") if number]
    with tempfile.TemporaryDirectory(prefix="kills-") as place:
        whole = fresh(Path(place) / "whole")
        began = time.monotonic()
        whole.command(*RUN)
        total = time.monotonic() - began
        print(f"undisturbed: {len(took(whole))} stages, {total:.0f} s", flush=True)
        good = 0
        kills = plan(list(read_stages(whole.folder)), args.number, args.seed)
        chosen = [(i, kill) for i, kill in enumerate(kills, 1) if not only or i in only]
        for i, kill in chosen:
            project = fresh(Path(place) / f"killed-{i}")
            seconds = took(whole)[kill.stage] if kill.stage else total
            outcome = killed(project, kill, seconds)
            fault = run_again(project) if not kill.stage else run_again(project, RUN)
            fault = fault or compare(whole, project)
            good += not fault
            print(f"{i:3} {kill!s:52} {outcome:44} {'DIFFERS: ' + fault if fault else 'equal'}", flush=True)
        print(f"equal hashes, and all recorded: {good} of {len(chosen)} (seed {args.seed})")
    return 0 if good == len(chosen) else 1


def plan(stages: list[str], number: int, seed: int) -> list[Kill]:
    """Choose the kills: one stage of each family, then more as far as the number goes; a quarter of them the flow."""
    numbers = random.Random(seed)
    of_flow = max(number // 4, number - len(stages))
    mixed = numbers.sample(stages, len(stages))
    families = {name.partition("@")[0]: name for name in reversed(mixed)}
    order = sorted(mixed, key=lambda name: name not in families.values())[: number - of_flow]
    by_stage = [Kill(stage, numbers.random(), i % 2 == 1) for i, stage in enumerate(order)]
    return [*by_stage, *(Kill("", numbers.random(), i % 2 == 0) for i in range(of_flow))]


def fresh(folder: Path) -> Project:
    """Make a small project of which nothing has run, with tracking."""
    project = copy_small(folder)
    project.change(lambda params: params["tracking"].update(store="mlflow"))
    return project


def took(project: Project) -> dict[str, float]:
    """Return the seconds that each stage took."""
    lines = (project.folder / ".work/costs.jsonl").read_text(encoding="utf-8").splitlines()
    return {entry["stage"]: entry["seconds"] for entry in map(json.loads, lines)}


def killed(project: Project, kill: Kill, seconds: float) -> str:
    """Start from nothing and kill at the point; return what was killed."""
    command = [sys.executable, "-m", *(RUN if kill.stage else FLOW)]
    process = subprocess.Popen(
        command,
        cwd=project.folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    victims: list[str] = []

    def strike() -> None:
        chosen = stage_processes(process.pid, kill.all_of_it) if kill.stage else [process.pid]
        for number in [*chosen, *(below(process.pid) if kill.all_of_it and not kill.stage else [])]:
            with suppress(psutil.Error, ProcessLookupError):
                victims.append(name_of(number))
                os.kill(number, signal.SIGKILL)

    begins = f"Running stage '{kill.stage}'" if kill.stage else ""
    timer: threading.Timer | None = None
    for line in process.stdout:
        if timer is None and line.startswith(begins):
            timer = threading.Timer(kill.share * seconds, strike)
            timer.start()
    code = process.wait()
    if timer is not None:
        timer.join()
    counts = Counter(victims)
    return f"{', '.join(name if n == 1 else f'{n} {name}' for name, n in counts.items()) or 'nothing'}; code {code}"


def stage_processes(root: int, warm: bool) -> list[int]:
    """Return the process of the stage that runs below another, or DVC's where none runs just now."""
    names = {number: name_of(number) for number in below(root)}
    stages = [n for n, name in names.items() if name.startswith("stages.") and (warm or not name.endswith("forks"))]
    return stages or [n for n, name in names.items() if name == "dvc"]


def below(root: int) -> list[int]:
    """Return all that a process has started, deepest last; the warm process and the tracker too."""
    with suppress(psutil.Error):
        return [child.pid for child in psutil.Process(root).children(recursive=True)]
    return []


def name_of(number: int) -> str:
    """Return the module that a process runs."""
    with suppress(psutil.Error):
        module = re.search(r" -m (\S+)", " ".join(psutil.Process(number).cmdline()))
        return module[1] if module else psutil.Process(number).name()
    return "gone"


def run_again(project: Project, command: tuple[str, ...] = FLOW) -> str:
    """Give the same command again until it ends well; return what it says when it does not."""
    for _ in range(AGAIN):
        done = project.command(*command, check=False)
        if done.returncode == 0:
            return ""
    return f"{command} ends with {done.returncode}: {done.stdout[-300:]}{done.stderr[-300:]}"


def compare(whole: Project, project: Project) -> str:
    """Return what differs from the undisturbed run: files, entries of dvc.lock, or what MLflow holds."""
    one, other = digests(whole), digests(project)
    if differ := sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name)):
        return f"files: {', '.join(differ[:5])}"
    locks = [YAML(typ="safe").load(p.folder / "dvc.lock")["stages"] for p in (whole, project)]
    if differ := [name for name in locks[0] if locks[0][name] != locks[1].get(name)]:
        return f"dvc.lock: {', '.join(differ[:5])}"
    return recorded(project)


def digests(project: Project) -> dict[str, str]:
    """Return path to digest of every file that the pipeline has written."""
    return {name: hashlib.sha256(value).hexdigest() for name, value in project.bytes("data").items()}


def recorded(project: Project) -> str:
    """Return which stages MLflow does not hold as finished, holds as running, or holds twice for one time they ran."""
    store = f"sqlite:///{project.folder / 'mlflow.db'}"
    project.command("stages.tracking.tracker")  # what a killed one has left
    done = subprocess.run(
        [sys.executable, "-c", RECORDED, store], cwd=project.folder, env=ENVIRONMENT, capture_output=True, text=True
    )
    runs = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else []
    finished = {stage for stage, status, _ in runs if status == "FINISHED"}
    faults = {
        "not recorded": [stage for stage in read_stages(project.folder) if stage not in finished],
        "running for ever": [stage for stage, status, _ in runs if status == "RUNNING"],
        "recorded twice": [entry for entry, number in Counter(entry for *_, entry in runs).items() if number > 1],
    }
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in faults.items() if names)


if __name__ == "__main__":
    sys.exit(main())
