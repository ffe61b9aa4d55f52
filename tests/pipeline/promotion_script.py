"""Promote, roll back, restore and audit in a project, in one process, for MLflow and torch take seconds to import.

    python -W ignore -m tests.pipeline.promotion_script     (in the project's folder, with its code on the path)

Standard output: a JSON object, step to what came of it; an error is its text.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from cli.ask import ask_registered
from flows.audit import audit, refresh
from flows.promote import Promotion, move_champion, promote, quiet
from flows.record import register
from flows.restore import restore
from knowtune.common.errors import UserError
from stages.core.champion import read_champion, read_results, write_champion
from stages.promotion.candidate import read_candidate
from stages.promotion.verdict import read_verdict
from stages.tracking.registry import Registry, open_registry
from stages.tracking.releasing import superfluous

HERE = Path()
DONE: dict[str, Any] = {}


class Killed(BaseException):
    """The process ends here."""


def step(name: str, action: Callable[[], Any]) -> Any:
    """Do something and keep what came of it."""
    try:
        DONE[name] = action()
    except (UserError, Killed) as error:
        DONE[name] = f"{type(error).__name__}: {error}"
    if isinstance(DONE[name], Promotion):
        DONE[name] = vars(DONE[name])
    return DONE[name]


def dvc(*arguments: str) -> None:
    """Run a DVC command."""
    subprocess.run([sys.executable, "-m", "dvc", *arguments], check=True, stdout=sys.stderr)


def teach(run: str, share: float) -> None:
    """Pretend that a run has a share of the trained facts right; nothing that small learns any."""
    folder = HERE / "data/evaluated/runs" / run
    examples = pd.read_json(folder / "examples.jsonl", lines=True, dtype=False)
    facts = sorted(set(examples[examples["kind"] == "reliability"]["fact"]))
    right = examples["fact"].isin(facts[: round(share * len(facts))]) & (examples["kind"] == "reliability")
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["summary"]["reliability"]["mean"] = share
    for name, text in (
        ("examples.jsonl", examples.assign(correct=right).to_json(orient="records", lines=True)),
        ("metrics.json", json.dumps(metrics)),
    ):
        (folder / name).unlink()  # it may be DVC's own copy
        (folder / name).write_text(text)
    dvc("commit", "--force", "--quiet", f"evaluate-run@{run}")
    dvc("repro", "--quiet", "gate")


@contextlib.contextmanager
def killed_before(method: str, *arguments: str) -> Iterator[None]:
    """Let the process end before a step of the registry's."""
    whole = getattr(Registry, method)

    def cut(self: Registry, *given: Any) -> Any:
        if [str(value) for value in given][: len(arguments)] == list(arguments):
            raise Killed(" ".join(["before", method, *arguments]))
        return whole(self, *given)

    setattr(Registry, method, cut)
    try:
        yield
    finally:
        setattr(Registry, method, whole)


def state(registry: Registry) -> dict[str, Any]:
    """Say what the registry holds, and what the gate compares with."""
    card = json.loads((HERE / "champion/card.json").read_text())
    return {
        "versions": [version.number for version in registry.versions()],
        "aliases": {alias: version.number for version in registry.versions() for alias in version.aliases},
        "champion": card.get("version"),
    }


def promotions(registry: Registry) -> None:
    """Two promotions, the first of which is killed at every step; back again; a dry run."""
    teach("lora", 0.5)
    step("dry", lambda: promote(HERE, dry_run=True))
    step("dry state", lambda: state(registry))
    for method, given in (("register", ()), ("point", ("candidate",)), ("point", ("champion",))):
        with killed_before(method, *given):
            step(f"killed before {' '.join([method, *given])}", lambda: promote(HERE))
    step("killed state", lambda: state(registry))
    step("first", lambda: promote(HERE))
    (HERE / "champion/card.json").write_text("{}")  # as if it had been killed before it wrote that
    step("again", lambda: promote(HERE))
    step("first state", lambda: state(registry))
    teach("full", 1.0)
    step("second", lambda: promote(HERE))
    step("second state", lambda: state(registry))
    step("rollback", lambda: move_champion(HERE))
    step("rollback state", lambda: state(registry))
    step("after rollback", lambda: promote(HERE))  # the verdict is the same as before
    step("to 2", lambda: move_champion(HERE, "2"))


def use(registry: Registry) -> None:
    """Load the champion as users do; measure it; bring it back."""
    import mlflow

    version = registry.by_alias("champion")
    assert version is not None
    mlflow.set_tracking_uri(registry.client.tracking_uri)
    loaded = mlflow.pyfunc.load_model("models:/knowtune@champion")
    DONE["predicted"] = loaded.predict(pd.DataFrame([{"question": "The number before two is"}]))["answer"].tolist()
    answered = HERE / "answer.txt"
    with answered.open("w") as file, contextlib.redirect_stdout(file):
        ask_registered(HERE, "champion", "The number before two is")
    DONE["answered"] = answered.read_text()
    DONE["tags"] = dict(version.tags)
    DONE["description"] = registry.client.get_model_version("knowtune", version.number).description
    found = audit(HERE)
    rows = (HERE / "champion/results.jsonl").read_text().splitlines(keepends=True)
    DONE["refreshed"] = [refresh(HERE)]
    fewer = pd.read_json(StringIO("".join(rows[1:])), lines=True)
    write_champion(HERE / "champion", read_champion(HERE / "champion", "knowtune") or {}, fewer)
    DONE["refreshed"] += [refresh(HERE), refresh(HERE), len(read_results(HERE / "champion")) == len(rows)]
    DONE["audit state"] = state(registry)["champion"]
    DONE["audit"] = {"differ": found.differ, "equal": found.equal, "all": len(found.recorded)}
    back = restore(HERE, "champion", HERE / "restored")
    DONE["restored"] = {"equal": back.equal, "differ": back.differ}
    step("restored again", lambda: restore(HERE, "champion", HERE / "restored"))
    store = (HERE / "store").resolve()
    for path in list((HERE / ".dvc/cache").rglob("*")):
        if path.is_file() and path.read_bytes()[:9] == b'{"parity"':
            there = store / path.relative_to(HERE / ".dvc/cache")
            there.parent.mkdir(parents=True)
            shutil.move(path, there)
    DONE["restored without an object"] = restore_anew()
    dvc("remote", "add", "--local", "--default", "store", str(store))
    DONE["restored from a remote"] = restore_anew()
    dvc("remote", "remove", "--local", "store")


def restore_anew() -> list[str]:
    """Restore the champion in the place of what was restored before, and return what differs."""
    subprocess.run(["git", "worktree", "remove", "--force", "restored"], check=True)
    return restore(HERE, "champion", HERE / "restored").differ


def bad(registry: Registry) -> None:
    """What users and machines do wrong."""
    client, (one, two) = registry.client, registry.versions()
    client.create_model_version("knowtune", one.source, model_id=one.source.rpartition("/")[2])
    step("to 3", lambda: move_champion(HERE, "3"))
    step("to 9", lambda: move_champion(HERE, "9"))
    registry.point("champion", "3")
    step("by hand", lambda: promote(HERE))
    registry.point("champion", "1")
    step("moved by hand", lambda: promote(HERE))
    registry.point("champion", "2")
    client.set_model_version_tag("knowtune", "2", "task", json.dumps({"kind": "regression"}))
    step("another task", lambda: promote(HERE))
    client.set_model_version_tag("knowtune", "2", "task", two.tags["task"])
    shutil.rmtree(
        Path(client.get_logged_model(one.source.rpartition("/")[2]).artifact_location[7:]) / "artifacts/model"
    )
    step("lost", lambda: move_champion(HERE, "1"))
    step("bad state", lambda: state(registry))
    (HERE / "params.yaml").write_text((HERE / "params.yaml").read_text() + "\n# edited\n")
    registry.client.delete_registered_model_alias("knowtune", "champion")
    (HERE / "champion/card.json").write_text("{}")
    step("edited", lambda: promote(HERE))
    room(registry)
    os.environ["MLFLOW_TRACKING_URI"] = "http://ann:s3cret@127.0.0.1:9"
    step("unreachable", lambda: promote(HERE))


def room(registry: Registry) -> None:
    """Remove the weights of what no alias names, and register the same model again."""
    registry.client.delete_registered_model_alias("knowtune", "candidate")
    gone = superfluous(registry, 1)
    DONE["superfluous"] = [(version.number, size > 0) for version, size in gone]
    DONE["with aliases moved"] = [version.number for version, _ in superfluous(registry, 1, new=1, held={"2"})]
    for version, _ in gone:
        registry.empty(version)
    step("emptied", lambda: move_champion(HERE, "2"))
    two, candidate = registry.version("2"), read_candidate(HERE, read_verdict(HERE))
    DONE["left"] = [bool(registry.list_files(two, part)) for part in ("model", "record")]
    again = registry.by_key(candidate.key) or register(registry, candidate)
    DONE["filled"] = [again.number, sorted(registry.list_files(again, "model"))]


def main() -> None:
    """Do all of it."""
    quiet()
    with contextlib.redirect_stdout(sys.stderr):
        registry = open_registry("knowtune")
        promotions(registry)
        use(registry)
        bad(registry)
    print(json.dumps(DONE))


if __name__ == "__main__":
    main()
