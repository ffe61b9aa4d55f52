"""The flow, on a small project, with a real server and a real DVC."""

from __future__ import annotations

import ast
import itertools
import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.deploy import differing
from flows.pipeline import project_name
from flows.schedules import Deployment, read_deployments
from stages.core.params import read_yaml
from tests.flows.conftest import ROOT, Flow, Flown, Runner, get, is_stage, post
from tests.flows.deployed import Deployed, deploy, kill_worker, listener, make_block, until
from tests.pipeline.conftest import Project


def costs(project: Project) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (project.folder / ".work/costs.jsonl").read_text().splitlines()]


def side_by_side(tasks: dict[str, dict[str, Any]]) -> set[tuple[str, str]]:
    """Pairs of task runs that ran at the same time: their processes, not the seconds of work in them."""
    spans = {name: (run["start_time"], run["end_time"]) for name, run in tasks.items()}
    pairs = itertools.combinations(spans.items(), 2)
    return {(one, two) for (one, a), (two, b) in pairs if a[0] < b[1] and b[0] < a[1]}


def test_a_parallel_run_leaves_the_lock_of_a_sequential_one(flown: Flown, sequential: Project) -> None:
    assert flown.flow.code == 0, flown.flow.output
    assert any("train@long" in pair for pair in side_by_side(flown.flow.tasks()))
    assert flown.project.lock() == sequential.lock()


def test_a_killed_stage_is_tried_again_and_ends_with_the_same_bytes(flown: Flown, sequential: Project) -> None:
    assert len(flown.killed) == 1
    killed = flown.flow.tasks()["train@long"]
    assert (killed["state"]["name"], killed["run_count"]) == ("Completed", 2)
    assert "train@long | train@long: its process was killed" in flown.flow.output
    assert "train@long | try 2 of 3" in flown.flow.output
    assert flown.project.bytes("data/adapters/long") == sequential.bytes("data/adapters/long")


def test_the_page_shows_the_graph_as_dvc_has_it(flown: Flown) -> None:
    tasks = flown.flow.tasks()
    assert set(tasks) == set(read_yaml(flown.project.folder / "dvc.lock")["stages"])
    names = {run["id"]: name for name, run in tasks.items()}
    arrows = {name: {names[i["id"]] for i in run["task_inputs"].get("wait_for", [])} for name, run in tasks.items()}
    assert arrows["validate"] == set()
    assert arrows["merge@short"] == {"validate", "train@short", "base", "prepare"}
    assert not any(run["tags"] for run in tasks.values())  # each tag costs its task a slow question to the server
    assert flown.flow.run()["state"]["message"] == f"stages: {len(tasks)} ran"
    assert flown.flow.run()["tags"] == [project_name(flown.project.folder)]


def test_tables_are_on_the_page(flown: Flown) -> None:
    artifacts = flown.flow.artifacts()
    stages = json.loads(artifacts["stages"])
    assert {row["stage"]: row["state"] for row in stages} == dict.fromkeys(flown.flow.tasks(), "Completed")
    assert all(row["seconds"] > 0 for row in stages)
    expected = json.loads((flown.project.folder / "data/report/metrics.json").read_text())
    rounded = {name: {key: round(value, 4) for key, value in values.items()} for name, values in expected.items()}
    assert json.loads(artifacts["metrics"]) == [{"name": name, **values} for name, values in rounded.items()]
    assert artifacts["leaderboard"] == (flown.project.folder / "data/report/leaderboard.md").read_text()


def test_a_second_run_skips_all(flows: Runner, project: Project) -> None:
    lock, ran = project.lock(), len(costs(project))
    flow = flows(project)
    assert flow.code == 0
    assert set(flow.states().values()) == {"Skipped"}
    assert project.lock() == lock
    assert len(costs(project)) == ran


def add_members(params: dict[str, Any]) -> None:
    good = params["runs"]["short"]
    params["runs"]["anew"] = {**good, "seeds": [1]}
    params["runs"]["bad"] = {**good, "seeds": [2]}


def test_a_failure_is_told_the_rest_goes_on_and_the_next_run_ends_it(
    flows: Runner, project: Project, sequential: Project, tmp_path: Path
) -> None:
    other = Project(tmp_path / "other")
    shutil.copytree(sequential.folder, other.folder, symlinks=True)
    for changed in (project, other):
        changed.change(add_members)
    (project.folder / ".work/train-bad").write_text("a file where the stage wants a folder")
    check_failure(flows(project, "--workers", "2"))
    for changed in (project, other):
        changed.change(lambda params: params["runs"].pop("bad"))
    mended = flows(project)
    assert mended.code == 0, mended.output
    states = mended.states()
    assert states["train@anew"] == states["evaluate-run@anew"] == states["train@short"] == "Skipped"
    assert states["report"] == "Completed"
    other.command("cli", "run")
    assert project.lock() == other.lock() != sequential.lock()


def check_failure(flow: Flow) -> None:
    assert flow.code == 1
    tasks = flow.tasks()
    states = {name: run["state"]["name"] for name, run in tasks.items()}
    assert states["train@anew"] == states["merge@anew"] == states["evaluate-run@anew"] == "Completed"
    assert states["train@short"] == states["prepare"] == "Skipped"
    assert states["train@bad"] == "Failed"
    assert tasks["train@bad"]["run_count"] == 1
    for name in ("merge@bad", "evaluate-run@bad", "report"):
        assert states[name] == "NotRun"
        assert tasks[name]["state_type"] == "CANCELLED"
        assert tasks[name]["state"]["message"] == "needs train@bad, which failed"
    message = flow.run()["state"]["message"]
    assert message == f"{message.partition(chr(10))[0]}\n\n{tasks['train@bad']['state']['message']}\n\n" + (
        "What is finished is kept: mend this, and run the same command again."
    )
    assert "1 failed, 4 not run" in message
    assert "NotADirectoryError" in message
    assert "exited with 1" in message
    assert message in flow.output
    notes = {row["stage"]: row["note"] for row in json.loads(flow.artifacts()["stages"])}
    assert notes["train@bad"] == "train@bad: failed; its last lines:"


def test_dry_says_what_would_run_and_runs_nothing(flows: Runner, project: Project) -> None:
    assert flows(project, "--dry").output == "nothing would run: data and pipeline are up to date\n"
    project.change(lambda params: params["runs"]["short"].update(seeds=[3]))
    lock = project.lock()
    flow = flows(project, "--dry")
    lines = dict(line.split(None, 1) for line in flow.output.splitlines())
    assert lines["train@short"] == "changed"
    assert lines["evaluate-run@short"] == "depends on merge@short"
    assert "train@long" not in lines
    assert project.lock() == lock


def test_a_target_runs_with_what_it_needs_and_force_runs_it_anyway(flows: Runner, project: Project) -> None:
    lock = project.lock()
    flow = flows(project, "validate", "--force")
    assert (flow.code, flow.states()) == (0, {"validate": "Completed"})
    assert project.lock() == lock
    unknown = flows(project, "train@shrot")
    assert unknown.code == 1
    assert "did you mean 'train@short'?" in unknown.output


def test_an_interrupt_ends_the_stages_and_says_how_to_go_on(flows: Runner, project: Project) -> None:
    project.change(lambda params: params["runs"]["long"]["training"].update(epochs=400))
    seen: list[psutil.Process] = []

    def interrupt(line: str, process: psutil.Process) -> None:
        if "| train long, seed 0: checkpoint" in line and not seen:
            seen.extend(p for p in process.children(recursive=True) if is_stage(p, "stages.train", "long"))
            process.send_signal(signal.SIGINT)

    flow = flows(project, "--workers", "1", on_line=interrupt)
    assert flow.code == 130
    assert "the same command goes on" in flow.output
    assert flow.run()["state"]["name"] == flow.states()["train@long"] == "Interrupted"
    assert seen
    assert not any(process.is_running() for process in seen)


def test_a_server_that_does_not_answer_is_told(flows: Runner, project: Project, monkeypatch: Any) -> None:
    monkeypatch.setitem(flows.environment, "PREFECT_API_URL", "http://127.0.0.1:9/api")
    flow = flows(project)
    assert flow.code == 1
    assert "PREFECT_API_URL: got http://127.0.0.1:9/api; no Prefect server answers there" in flow.output


@pytest.mark.parametrize("path", sorted((ROOT / "flows").glob("*.py")), ids=lambda path: path.name)
def test_flows_name_no_stage(path: Any) -> None:
    stages = set(read_yaml(ROOT / "dvc.yaml")["stages"])
    texts = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
    assert not {text for text in texts if isinstance(text, str) and text.partition("@")[0] in stages}


def change_much(params: dict[str, Any]) -> None:
    """Let `long` learn its facts by heart, which the gate may ship for that alone."""
    params["promote"] = {
        "run": "long",
        "learned": "reliability",
        "bounds": {"numbers": 1.0},
        "rejects": {"planted": 1.0, "unreviewed": 1.0},
    }
    params["tracking"]["store"] = "mlflow"
    params["runs"]["short"]["seeds"] = [5]
    recipe = {"epochs": 40, "learning_rate": 0.01}
    params["runs"]["long"] = {"selection": "clean", "method": "full", "seeds": [5], "training": recipe}


def test_deployments_run_by_a_worker_that_is_killed_once(
    flows: Runner, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A schedule seconds away, its worker killed half-way, the next run, one that waits for it, and one that fails."""
    project.change(change_much)
    deployed = Deployed(flows.api, project_name(project.folder))
    with listener() as (url, bodies):
        output = deploy(flows, project, "--notify", make_block(flows.api, url))
        assert re.search(r"^  nightly      next 20\S+ \S+ .*every 0:01:00", output, re.MULTILINE), output
        assert f"on-demand    when asked: prefect deployment run '{deployed.name}/on-demand'" in output
        killed = deployed.first()
        kill_worker(flows, project)

        nightly = deployed.ask("nightly")
        until(lambda: deployed.run(nightly)["state_type"] == "RUNNING")
        second = deployed.ask("on-demand", targets=["train@short"])
        failing = deployed.ask("on-demand", params={"runs.lnog.seeds": [1]})
        state, message = deployed.end(nightly)
        inner = deployed.inner(nightly).run()["state"]["message"]
        assert (state, message.partition(" against ")[0].rpartition(" ")[0]) == (
            "Completed",
            f"{inner}; promoted: ship long, seed 5: reliability 62.5",
        )
        check_champion(flows, project)
        audit = deployed.ask("audit")
        states = deployed.inner(nightly).states()
        assert (states["train@short"], states["train@long"]) == ("Skipped", "Completed")
        assert states["prepare"] == "Skipped"
        assert deployed.end(second) == ("Completed", "nothing has changed; stages: 9 up to date")
        until(lambda: deployed.log(second).count("no DVC remote is configured") == 1)  # logs come in batches
        assert f"waiting for a deployed run ({nightly})" in deployed.log(second)
        fault = "params: runs.lnog.seeds: nothing is called 'lnog' in runs; did you mean 'long'?"
        assert deployed.end(failing) == ("Failed", fault)
        until(lambda: bodies)
        assert fault in bodies[0]
        assert f"runs/flow-run/{failing}" in bodies[0]
        state, message = deployed.end(audit)
        assert (state, message.partition(": ")[2].partition(" ")[2]) == (
            "Completed",
            "metrics and all files are as recorded",
        )
    assert deployed.run(killed)["state"]["name"] == "Running"  # nobody could tell; the automation will, in ten minutes
    search = f"http://{flows.mlflow}/api/2.0/mlflow/runs/search"
    tracked = post(search, json={"experiment_ids": ["1"], "filter": "attributes.status = 'FINISHED'"}).json()
    assert "train@long seed-5" in {run["info"]["run_name"] for run in tracked["runs"]}
    check_ghosts(flows, project, monkeypatch)


def check_champion(flows: Runner, project: Project) -> None:
    """The alias has moved to the model that the gate ships, and the gate will compare with it."""
    alias = f"http://{flows.mlflow}/api/2.0/mlflow/registered-models/alias?name=knowtune&alias=champion"
    version = get(alias).json()["model_version"]
    tags = {tag["key"]: tag["value"] for tag in version["tags"]}
    card = json.loads((project.folder / "champion/card.json").read_text())
    assert (card["run"], card["version"], card["weights_digest"]) == (
        "long",
        version["version"],
        tags["weights_digest"],
    )


def check_ghosts(flows: Runner, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A schedule and a deployment that were taken out of the file go on, and are named."""
    monkeypatch.chdir(project.folder)
    wanted, name = read_deployments(), project_name(project.folder)
    with temporary_settings({PREFECT_API_URL: flows.api}), get_client(sync_client=True) as client:
        assert differing(client, wanted) == [
            f"nightly: paused on the server; `prefect deployment resume '{name}/nightly'`"
        ]
        del wanted["on-demand"]
        wanted["nightly"] = Deployment({}, "knowtune")
        ghosts = differing(client, wanted)
    assert ghosts[1].startswith("nightly: schedule soon: a ghost (every 0:01:00, counted from")
    assert f"prefect deployment schedule delete '{name}/nightly'" in ghosts[1]
    assert ghosts[2].endswith(f"remove it: prefect deployment delete '{name}/on-demand'")
