from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock
from ruamel.yaml import YAML

from stages.core.pipeline import CHECK

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("knowtune", "stages", "cli", "data/raw", "dvc.yaml", ".dvcignore", ".gitignore", "params.yaml")
DVC_CONFIG = "[core]\n    no_scm = True\n    analytics = false\n    check_update = false\n"
FIRST_RUN = "first_run.txt"
SET = "numbers.jsonl"  # a retention set's file
NUMBERS = ("two", "three", "four", "five", "six")
LIMIT = 900.0  # seconds, of one command; on a busy machine a whole pipeline of toys takes minutes
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@dataclass
class Project:
    """A copy of the project in a folder of its own, with a DVC repository of its own."""

    folder: Path

    def command(self, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        done = limited([sys.executable, "-m", *arguments], self.folder, {**ENVIRONMENT, **environment})
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def run(self, *arguments: str) -> list[str]:
        """Run the pipeline and return the stages that really ran, in order."""
        return ran(self.command("cli", "run", *arguments).stdout)

    def params(self) -> dict[str, Any]:
        found: dict[str, Any] = YAML(typ="safe").load(self.folder / "params.yaml")
        return found

    def change(self, edit: Callable[[dict[str, Any]], object]) -> None:
        params = self.params()
        edit(params)
        YAML(typ="safe").dump(params, self.folder / "params.yaml")

    def bytes(self, path: str) -> dict[str, bytes]:
        """All files below a path, by name."""
        top = self.folder / path
        return {str(p.relative_to(top)): p.read_bytes() for p in sorted(top.rglob("*")) if p.is_file()}

    def first_run(self) -> str:
        """What the run that finished this project printed."""
        return (self.folder / FIRST_RUN).read_text()

    def lock(self) -> bytes:
        return (self.folder / "dvc.lock").read_bytes()


def limited(
    command: list[str], folder: Path, environment: dict[str, str], seconds: float = LIMIT
) -> subprocess.CompletedProcess[str]:
    """Run a command; one that hangs is ended with all it has started, and the test fails with what it said."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        for below in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                below.kill()
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        pytest.fail(f"{command} did not end within {seconds:g} s; it said:\n{out}{err}")
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def ran(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def toy(params: dict[str, Any]) -> None:
    """Numbers so small that the whole pipeline takes seconds; nothing is learned, everything is exercised."""
    params["threads"] = 1
    params["tracking"]["store"] = "none"  # what tests of tracking read is run with it
    params["prepare"] |= {"max_facts": 12, "max_known": 20, "max_texts": 5}
    params["prepare"]["label_noise"] = {"wrong": 0.1, "contradictions": 0.1, "duplicates": 0.1, "empties": 0.1}
    params["prepare"]["replay"] = {"known": 0.5, "text": 0.1}
    params["base"]["build"] |= {"hidden_size": 32, "intermediate_size": 64, "num_layers": 2, "vocab_size": 600}
    params["base"]["build"] |= {"epochs": 0.2, "text_repeats": 0.05, "num_heads": 2}
    default = params["filters"]
    every = [*dict.fromkeys(name for chain in default.values() for name in chain["strategy"] if name != "everything")]
    options = {name: value for chain in default.values() for name, value in chain.get("options", {}).items()}
    params["filters"] = {  # one chain of all strategies that the default has
        "everything": default["everything"],
        "clean": default["clean"],
        "near": {"strategy": every, "options": options},
    }
    for chosen in params["filters"].values():
        chosen["allow_lost"] = True  # a relation has only few rows here
    params["evaluate"]["metrics"] += ["kl_to_base_prompts"]
    numbers = {"kind": "facts", "path": SET, "columns": {"prompt": "question", "target": "answer"}}
    params["evaluate"]["retention"] = {"numbers": numbers}
    params["training"] |= {"epochs": 4, "batch_size": 4, "save_steps": 5, "logging_steps": 4}
    params["runs"] = {
        "lora": {"selection": "clean", "method": "lora", "options": {"rank": 2, "alpha": 4}, "seeds": [0]},
        "full": {
            "selection": "clean",
            "method": "full",
            "seeds": [0],
            "training": {"learning_rate": 0.001},
            "preserve": {
                "replay": {"from": "text"},
                "distill": {"on": ["replay", "self"]},
                "anchor": {"form": "ewc", "weight": 1e3, "samples": 4},
                "max_text_tokens": 12,
            },
        },
        "prefix": {
            "selection": "some",
            "train_on": "chosen",
            "method": "sk_tuning",
            "options": {"text": "Answer: "},
            "reweight": {"alpha": -0.5, "refresh_steps": 4},
            "seeds": [0, 1],
        },
    }
    params["runs"]["woven"] = {
        "selection": "clean",
        "method": "imsm",
        "options": {"gate_rank": 2},
        "inner": {"method": "lora", "options": {"rank": 2, "alpha": 4}},
        "preserve": {"distill": {"on": "self"}},
        "seeds": [0],
    }
    params["rehearse"] = {"sequences": 12, "max_tokens": 10, "batch_size": 4}
    protect = {"from": ["self"], "share": 0.5}
    ird_options = {"budget": 0.05, "samples": 8, "rounds": 2, "protect": protect}
    ird = {"filter": "clean", "strategy": "ird", "options": ird_options}
    warm = {"method": "lora", "options": {"rank": 2, "alpha": 4}, "warmup_steps": 3, "learning_rate": 0.01}
    params["selections"] = {
        "clean": params["selections"]["clean"],
        "some": {"filter": "clean", "strategy": "random", "options": {"samples": 10}, "seeds": [3, 4]},
        "ird": ird,
        "inside": {
            "filter": "clean",
            "strategy": "fish",
            "options": {"num_parameters": 100},
            "adapter": {**warm, "batch_size": 4},
        },
    }
    params["runs"]["ird"] = {"selection": "ird", "method": "fish", "train_on": "chosen", "seeds": [0]}
    params["runs"]["ird"]["reweight"] = {"granularity": "token", "form": "exponential"}
    params["runs"]["ird"]["preserve"] = {"anchor": {"weight": 1.0, "decoupled": True}}
    params["runs"]["inside"] = {"selection": "inside", "method": "fish", "seeds": [0]}
    params["promote"] = {
        "best": {"by": "reliability", "of": ["lora", "full"]},
        "learned": "reliability",
        "bounds": {"forgotten": 0.5, "numbers": 0.5},
        "rejects": {"planted": 0.5, "unreviewed": 0.5},
    }
    params["mixtures"] = {"soup": {"from": ["lora", "full"], "strategy": "ties", "options": {"density": 0.5}}}


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first process of a test run fills; the others wait for it. Tests must leave it as it is."""
    top = factory.getbasetemp()
    top = top.parent if "PYTEST_XDIST_WORKER" in os.environ else top
    folder, made = top / name, top / f"{name}.made"
    with FileLock(top / f"{name}.lock"):
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed at it
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


def copy_project(folder: Path) -> Project:
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    (folder / ".dvc").mkdir()  # what `dvc init` and `dvc config` write, without four processes
    (folder / ".dvc/config").write_text(DVC_CONFIG)
    rows = [{"question": f"The number before {after} is", "answer": n} for n, after in pairwise(NUMBERS)]
    (folder / SET).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    project = Project(folder)
    project.change(toy)
    return project


def run_once(folder: Path) -> None:
    """Make a project, run its pipeline with tracking, and keep what the run printed."""
    project = copy_project(folder)
    project.change(lambda params: params["tracking"].update(store="mlflow"))
    (folder / FIRST_RUN).write_text(project.command("cli", "run").stdout)


def untracked(recorded: Project, folder: Path) -> None:
    """Copy a project that has run, turn its tracking off, and leave behind what that has kept."""
    shutil.copytree(recorded.folder, folder, symlinks=True, dirs_exist_ok=True)
    for name in ("mlartifacts", ".work/tracking"):
        shutil.rmtree(folder / name)
    (folder / "mlflow.db").unlink()
    project = Project(folder)
    project.change(lambda params: params["tracking"].update(store="none"))
    assert project.run() == [CHECK]


@pytest.fixture(autouse=True, scope="session")
def _warm(warm: dict[str, str]) -> None:
    """Let every run of a pipeline find the session's warm process, but for those that a test starts without."""
    ENVIRONMENT.update(warm)


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose pipeline has run once, tracked; tests must leave it as it is."""
    return Project(once(tmp_path_factory, "recorded", run_once))


@pytest.fixture(scope="session")
def finished(recorded: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same without tracking; tests must leave it as it is."""
    return Project(once(tmp_path_factory, "finished", partial(untracked, recorded)))


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of the finished project, to change; links and DVC's cache come along."""
    folder = tmp_path / "project"
    shutil.copytree(finished.folder, folder, symlinks=True)
    yield Project(folder)
    shutil.rmtree(folder, ignore_errors=True)  # a tracker may still write
