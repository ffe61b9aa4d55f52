"""The pipeline for real, with toy numbers: DVC, training, merging, evaluation; then one knob, and only what follows."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.conftest import ENVIRONMENT, Project, copy_project, ran


def weights(project: Project, path: str) -> str:
    digest: str = json.loads((project.folder / path / "knowtune.json").read_text())["weights_digest"]
    return digest


def test_whole_run_ends_with_a_leaderboard(finished: Project) -> None:
    board = json.loads((finished.folder / "data/report/leaderboard.json").read_text())
    assert list(board) == ["base", "full", "inside", "ird", "lora", "prefix", "soup", "woven"]
    assert board["prefix"]["reliability"]["n"] == 2
    of_known = {"forgotten", "locality"}  # the toy base has nothing right that it could lose
    for entry in board.values():
        assert set(entry) == {*finished.params()["evaluate"]["metrics"], "numbers"} - of_known
    notes = json.loads((finished.folder / "data/baseline/notes.json").read_text())
    right, num = notes["known"]
    assert (right, num > 0) == (0, True)
    (caution,) = [caution for caution in notes["cautions"] if "known facts" in caution]
    assert caution in (finished.folder / "data/report/leaderboard.md").read_text()
    output = finished.first_run()
    assert "data/report/index.html" in output
    page = (finished.folder / "data/report/index.html").read_text()
    assert "imsm of lora on clean" in page
    assert "sk_tuning on some" in page and "<h3>Virtual tokens and their words</h3>" in page
    similarity = (finished.folder / "data/report/curves/prefix.similarity.csv").read_text().splitlines()
    assert similarity[0] == "step,loss" and 0 < float(similarity[-1].partition(",")[2]) < 1


def test_every_answer_stands_beside_the_bases(finished: Project) -> None:
    def examples(path: str) -> list[dict[str, Any]]:
        return [
            json.loads(line) for line in (finished.folder / "data" / path / "examples.jsonl").read_text().splitlines()
        ]

    base = {example["id"]: (example["answer"], example["distance"]) for example in examples("baseline")}
    for path in ("evaluated/runs/prefix", "evaluated/mixtures/soup"):
        found = examples(path)
        assert [(example["base_answer"], example["base_distance"]) for example in found] == [
            base[example["id"]] for example in found
        ]
        assert all(0 <= example["distance"] <= 2 for example in found)
        assert any(example["answer"] != example["base_answer"] for example in found)
    page = (finished.folder / "data/report/index.html").read_text()
    assert "<h2>Answers that were pushed away</h2>" in page
    assert "soup: the answers to new facts that it pushed away farthest" in page


def test_every_model_is_measured_on_further_sets_row_by_row(finished: Project) -> None:
    def ids(path: str) -> list[str]:
        lines = (finished.folder / "data" / path).read_text().splitlines()
        return [json.loads(line)["id"] for line in lines]

    measured = ids("baseline/retention/numbers/examples.jsonl")
    assert len(measured) == 4
    assert ids("evaluated/runs/prefix/retention/numbers.jsonl") == 2 * measured
    assert ids("evaluated/mixtures/soup/retention/numbers.jsonl") == measured
    found = json.loads(finished.command("cli", "compare", "base", "prefix", "--set", "numbers", "--json").stdout)
    assert found["parts"]["numbers"]["facts"] == 4
    assert found["seeds"] == [[], [0, 1]]
    page = (finished.folder / "data/report/index.html").read_text()
    assert "<h3>What was forgotten of further sets</h3>" in page
    stages = ran(finished.first_run())
    assert stages.index("retention@numbers") < min(i for i, name in enumerate(stages) if name.startswith("train@"))


def test_rows_read_are_kept_or_dropped(finished: Project) -> None:
    def ids(path: str) -> list[str]:
        lines = (finished.folder / "data" / path).read_text().splitlines()
        return [json.loads(line)["id"] for line in lines]

    train = ids("prepared/train.jsonl")
    kept, dropped = ids("filtered/clean/kept.jsonl"), ids("filtered/clean/dropped.jsonl")
    assert sorted(kept + dropped) == sorted(train)
    assert dropped
    assert ids("filtered/everything/kept.jsonl") == train
    injected = {
        json.loads(line)["id"]: json.loads(line)["kind"]
        for line in (finished.folder / "data/prepared/label_noise.jsonl").read_text().splitlines()
    }
    assert {row_id for row_id, kind in injected.items() if kind in ("empty", "duplicate")} <= set(dropped)


def test_merged_models_fold_or_stay_composed(finished: Project) -> None:
    folder = finished.folder / "data/merged"
    assert (folder / "lora/seed-0/model.safetensors").is_file()
    assert json.loads((folder / "prefix/seed-1/composed.json").read_text())["method"] == "sk_tuning"
    woven = json.loads((folder / "woven/seed-0/composed.json").read_text())
    assert woven["method"] == "imsm" and woven["options"]["inner"]["method"] == "lora"
    for run in ("lora", "full", "prefix", "woven"):
        for found in json.loads((folder / run / "parity.json").read_text()).values():
            assert found["largest"] <= finished.params()["merge"]["parity"]
            assert found["num_rows"] > 0


def test_only_what_was_chosen_was_trained(finished: Project) -> None:
    from safetensors.torch import load_file

    mask = load_file(finished.folder / "data/selected/ird/seed-0/mask.safetensors")
    base = load_file(finished.folder / "data/base/model.safetensors")
    merged = load_file(finished.folder / "data/merged/ird/seed-0/model.safetensors")
    num = 0
    for name, tensor in base.items():
        moved = (tensor != merged[name]).flatten().nonzero().flatten()
        assert set(moved.tolist()) <= set(mask[name].tolist())
        num += len(moved)
    assert num > 0.9 * sum(map(len, mask.values()))
    card = json.loads((finished.folder / "data/adapters/ird/seed-0/knowtune.json").read_text())
    assert card["num_rows"] == 8
    assert card["num_trainable"] == sum(map(len, mask.values()))


def test_what_carries_the_bases_knowledge_is_left_alone(finished: Project) -> None:
    card = json.loads((finished.folder / "data/selected/ird/seed-0/selection.json").read_text())
    assert card["protected"]["share"] == pytest.approx(0.5, abs=1e-4)
    assert card["protected"]["mass"] > 0.5 > 0.05 > card["protected"]["mass_touched"]
    summary = json.loads((finished.folder / "data/selected/ird/summary.json").read_text())
    assert summary["seed-0"]["protected"] == card["protected"]
    plain = json.loads((finished.folder / "data/selected/some/summary.json").read_text())
    assert "protected" not in plain["seed-3"]


def test_rows_that_were_chosen_are_weighed_by_their_distance(finished: Project) -> None:
    def lines(path: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (finished.folder / "data" / path).read_text().splitlines()]

    for run, selected in (("prefix", "some/seed-3"), ("ird", "ird/seed-0")):
        chosen = [row["id"] for row in lines(f"selected/{selected}/rows.jsonl") if row["chosen"]]
        told = lines(f"adapters/{run}/seed-0/weights.jsonl")
        assert [row["id"] for row in told] == chosen
        card = json.loads((finished.folder / f"data/adapters/{run}/seed-0/knowtune.json").read_text())["reweight"]
        assert 0 < card["min"] < 1 < card["max"]
        assert (card["measured_at"] > 0) == (run == "prefix")
    plain = json.loads((finished.folder / "data/adapters/lora/seed-0/knowtune.json").read_text())
    assert plain["reweight"] is None


def test_anchors_hold_by_what_the_stage_preserve_wrote(finished: Project) -> None:
    data = finished.folder / "data"
    assert [path.parent.name for path in data.glob("preserved/*/fisher.safetensors")] == ["full"]
    terms = {"full": {"anchor", "distill", "replay"}, "ird": set()}  # a decoupled anchor is no term of the loss
    for run, splits in terms.items():
        anchor = json.loads((data / f"adapters/{run}/seed-0/knowtune.json").read_text())["preserve"]["anchor"]
        assert anchor["decoupled"] == (run == "ird")
        curve = (data / f"adapters/{run}/seed-0/curve.csv").read_text().splitlines()[1:]
        assert {line.split(",")[1] for line in curve} == {"train", "validation", *splits}


def test_a_selection_of_an_adapter_hands_it_on(finished: Project) -> None:
    seed = finished.folder / "data/selected/inside/seed-0"
    assert (seed / "adapter/adapter_model.safetensors").is_file()
    config = json.loads((finished.folder / "data/adapters/inside/seed-0/adapter_config.json").read_text())
    assert config["peft_type"] == "LORA"
    card = json.loads((finished.folder / "data/adapters/inside/seed-0/knowtune.json").read_text())
    assert card["num_trainable"] == 100
    page = (finished.folder / "data/report/index.html").read_text()
    assert "fish on inside" in page


def test_no_out_holds_a_path_a_clock_or_a_host(recorded: Project) -> None:
    here = str(recorded.folder).encode()
    for name, content in recorded.bytes("data").items():
        assert here not in content, name


def test_second_run_does_nothing(finished: Project) -> None:
    before = finished.lock()
    assert finished.run() == []
    assert finished.lock() == before


def test_a_fresh_copy_ends_with_the_same_lock(finished: Project, tmp_path: Path) -> None:
    """Without outs, cache, work folder and tracking, and with training in a process of its own: the same bytes.

    For the base alone in a process of its own see test_attacks; for merging and evaluation anew the tests of flows.
    """
    fresh = copy_project(tmp_path)
    (fresh.folder / "dvc.lock").write_bytes(finished.lock())
    fresh.run("select@clean", "preserve@lora")
    assert fresh.run("--cold", "train@lora") == ["train@lora"]
    assert fresh.lock() == finished.lock()
    assert not {"mlflow.db", "mlartifacts"} & {path.name for path in fresh.folder.iterdir()}
    assert not (fresh.folder / ".work/tracking").exists()


@dataclass
class Edited:
    """A project with three edits of its params, run again."""

    project: Project
    output: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def edited(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Edited:
    """A knob of one run, a seed more of another, and a third that is gone with its selection."""

    def edit(params: dict[str, Any]) -> None:
        params["runs"]["lora"]["options"]["rank"] = 3
        params["runs"]["prefix"]["seeds"] = [0, 1, 2]
        del params["runs"]["inside"]
        del params["selections"]["inside"]

    project = Project(tmp_path_factory.mktemp("edited") / "project")
    shutil.copytree(finished.folder, project.folder, symlinks=True)
    project.change(edit)
    return Edited(project, project.command("cli", "run"))


def test_edits_of_params_rerun_only_what_follows(edited: Edited) -> None:
    assert sorted(ran(edited.output.stdout)) == sorted(
        [
            "validate",
            *(
                f"{stage}@{run}"
                for stage in ("preserve", "train", "merge", "evaluate-run")
                for run in ("lora", "prefix")
            ),
            "mix@soup",
            "evaluate-mixture@soup",
            "gate",
            "report",
        ]
    )


def test_an_added_seed_trains_only_that_seed(edited: Edited, finished: Project) -> None:
    assert "train prefix: seed 0 is finished already" in edited.output.stderr
    assert "train prefix: seed 1 is finished already" in edited.output.stderr
    assert "train prefix, seed 2: " in edited.output.stderr
    assert "train prefix, seed 0: " not in edited.output.stderr
    for seed in (0, 1):
        path = f"data/adapters/prefix/seed-{seed}"
        assert edited.project.bytes(path) == finished.bytes(path)


def test_a_removed_run_leaves_no_ghost(edited: Edited) -> None:
    assert b"inside" not in edited.project.lock()
    assert not [name for name in edited.project.bytes("data") if "inside" in name]
    assert "fish on inside" not in (edited.project.folder / "data/report/index.html").read_text()


def train(name: str, like: str, selection: str) -> list[str]:
    """Give the command that trains a run like a finished one, beside what DVC knows."""
    return [
        *("stages.train", "--name", name, "--selected", f"data/selected/{selection}", "--out", f"data/adapters/{name}"),
        *("--preserved", f"data/preserved/{like}", "--validation", "data/prepared/validation.jsonl"),
        *("--base", "data/base"),
    ]


def test_a_seed_alone_equals_the_seed_in_a_list(project: Project) -> None:
    project.change(lambda p: p["runs"].update(alone={**p["runs"]["prefix"], "seeds": [1]}))
    project.command(*train("alone", "prefix", "some"))
    assert weights(project, "data/adapters/alone/seed-1") == weights(project, "data/adapters/prefix/seed-1")


def test_new_members_are_a_file_and_a_line_each_and_retrain_nothing(project: Project) -> None:
    code = project.folder / "knowtune"
    for family, member, name in (
        ("methods", "full", "Full"),
        ("filters", "everything", "Everything"),
        ("selectors", "everything", "Everything"),
        ("merging.mixtures", "average", "Average"),
        ("evaluation.metrics", "known", "Known"),
    ):
        folder = code / family.replace(".", "/")
        text = (folder / f"{member}.py").read_text()
        (folder / "fresh.py").write_text(text.replace(f"class {name}", "class Fresh"))
        registry = folder / "__init__.py"
        line = f'    "{member}": "knowtune.{family}.{member}:{name}",\n'
        assert line in registry.read_text()
        added = line + f'    "fresh": "knowtune.{family}.fresh:Fresh",\n'
        registry.write_text(registry.read_text().replace(line, added))
    method = code / "methods/fresh.py"
    all_of_it = "return model.requires_grad_(True)"
    assert all_of_it in method.read_text()
    norm = 'model.requires_grad_(False)\n        model.get_parameter("model.norm.weight").requires_grad_(True)'
    method.write_text(method.read_text().replace(all_of_it, f"{norm}\n        return model"))

    def use(params: dict[str, Any]) -> None:
        params["runs"]["fresh"] = {"selection": "clean", "method": "fresh", "seeds": [0]}
        params["filters"]["fresh"] = {"strategy": ["clean", "fresh"], "allow_lost": True}
        params["selections"]["fresh"] = {"filter": "fresh", "strategy": "fresh"}
        params["mixtures"]["blend"] = {"from": ["lora", "full"], "strategy": "fresh"}
        params["evaluate"]["metrics"].append("fresh")

    project.change(use)
    stages = project.run("select@fresh", "mix@blend", "evaluate-run@fresh")
    of_members = [f"{stage}@fresh" for stage in ("filter", "select", "preserve", "train", "merge", "evaluate-run")]
    assert sorted(stages) == sorted(["validate", "baseline", "mix@blend", *of_members])
    card = json.loads((project.folder / "data/adapters/fresh/seed-0/knowtune.json").read_text())
    assert card["num_trainable"] == 32
    found = json.loads((project.folder / "data/evaluated/runs/fresh/metrics.json").read_text())["summary"]
    assert found["fresh"] == found["known"]


def test_finished_seeds_survive_edits_of_code_that_the_run_does_not_use(project: Project) -> None:
    command = train("full", "full", "clean")
    methods = project.folder / "knowtune/methods"
    before = project.bytes("data/adapters/full")
    for path in (methods / "lora.py", methods / "fish/method.py", project.folder / "knowtune/filters/clean.py"):
        path.write_text(path.read_text() + "\n\nEDITED = 1\n")
    assert "seed 0 is finished already" in project.command(*command).stderr
    (methods / "full.py").write_text((methods / "full.py").read_text() + "\n\nEDITED = 1\n")
    assert "finished already" not in project.command(*command).stderr
    assert project.bytes("data/adapters/full") == before


def test_a_killed_stage_resumes_and_ends_with_the_same_hash(project: Project) -> None:
    expected = project.bytes("data/adapters/full")
    folder = project.folder

    def edit(params: dict[str, Any]) -> None:
        params["runs"]["again"] = {**params["runs"]["full"]}

    project.change(edit)
    command = [sys.executable, "-m", *train("again", "full", "clean")]
    with subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as stage:
        assert stage.stderr is not None
        for line in stage.stderr:
            if "checkpoint at step 8" in line:
                stage.kill()
    assert stage.returncode == -9
    assert not (folder / "data/adapters/again").exists()
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert "goes on from checkpoint-" in done.stderr
    assert project.bytes("data/adapters/again/seed-0") == {
        name.removeprefix("seed-0/"): content for name, content in expected.items()
    }


def test_bad_params_stop_before_dvc_and_under_plain_dvc(project: Project) -> None:
    before = project.lock()

    def edit(params: dict[str, Any]) -> None:
        params["runs"]["lora"]["selection"] = "claen"
        params["training"]["batch_sise"] = params["training"].pop("batch_size")

    project.change(edit)
    done = project.command("cli", "run", check=False)
    assert done.returncode == 1
    assert ran(done.stdout) == []
    for line in (
        "runs.lora.selection: got 'claen'; allowed: clean, inside, ird, some; did you mean 'clean'?",
        "training.batch_size: got nothing; allowed: a value; this key is required",
        "training.batch_sise: got an unknown key",
    ):
        assert line in done.stderr
    assert "did you mean 'batch_size'?" in done.stderr
    plain = project.command("dvc", "repro", check=False)
    assert plain.returncode != 0
    assert ran(plain.stdout) == ["validate"]
    assert "runs.lora.selection: got 'claen'" in plain.stderr
    assert project.lock() == before


def test_own_files_and_model_run_in_a_workspace(project: Project, tmp_path: Path) -> None:
    """JSON-lines files with other column names, and a model folder as base; the project itself stays as it was."""
    data = tmp_path / "mine"
    data.mkdir()
    names = {"train": "learn.jsonl", "test": "exam.jsonl"}
    for table, name in names.items():
        rows = [
            {"question": f"The colour of thing {i} {wording}", "answer": f"shade {i % 7}", "thing": f"thing {i}"}
            for i in range(15)
            for wording in ({"train": ("is", "has always been"), "test": ("must be",)}[table])
        ]
        (data / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (data / "prose.jsonl").write_text('{"body": "It rained all day."}\n{"body": "Then the sun came out."}\n')

    def edit(params: dict[str, Any]) -> None:
        columns = {"id": None, "fact": "thing", "relation": None, "subject": "thing", "template": None}
        params["source"] = {
            "format": "files",
            "data": str(data),
            "text": str(data / "prose.jsonl"),
            "text_column": "body",
            "files": {"train": names["train"], "validation": None, "test": [names["test"]], "known": None},
            "held_out": {"validation": 0.2, "test": 0},
            "several_answers": False,
            "columns": {**columns, "prompt": "question", "target": "answer"},
        }
        params["prepare"]["label_noise"] = dict.fromkeys(params["prepare"]["label_noise"], 0)
        params["prepare"]["replay"] = {"known": 0, "text": 0.5}
        params["base"] = {"model": "folder", "path": "data/base"}
        params["evaluate"]["metrics"] = ["reliability", "generalisation", "text_drift", "pushed_away"]
        params["runs"] = {"lora": {**params["runs"]["lora"], "seeds": [0, 1]}}
        params["mixtures"] = {}
        del params["promote"]  # every section of which is a run here, or a metric, that is gone
        params["filters"] = {"clean": params["filters"]["clean"]}
        params["selections"] = {"clean": params["selections"]["clean"]}
        params["answers"]["sketch"] = None  # no filter here reads it

    original = (project.folder / "params.yaml").read_bytes()
    project.change(edit)
    (project.folder / "params.yaml").rename(project.folder / "mine.yaml")
    (project.folder / "params.yaml").write_bytes(original)
    before = project.lock()
    stages = project.run("--params", "mine.yaml")
    assert stages[0] == "validate"
    assert stages[-1] == "report"
    assert project.lock() == before
    assert (project.folder / "params.yaml").read_bytes() == original
    board = json.loads((project.folder / "workspaces/mine/data/report/leaderboard.json").read_text())
    assert list(board) == ["base", "lora"]
    assert "known" not in board["lora"]
    assert project.run("--params", "mine.yaml") == []
    card = json.loads((project.folder / "workspaces/mine/data/base/base.json").read_text())
    assert not (project.folder / "workspaces/mine/data/base/model.safetensors").exists()
    assert card["files"]["model.safetensors"]


def test_plan_names_what_would_run_and_for_how_long(project: Project) -> None:
    assert "nothing would run" in project.command("cli", "plan").stdout
    project.change(lambda p: p["runs"]["lora"]["options"].update(rank=5))
    plan = project.command("cli", "plan").stdout
    assert "train@lora" in plan
    assert "train@full" not in plan
    assert " s" in plan.splitlines()[0]


def test_ask_shows_both_answers(finished: Project) -> None:
    table = finished.command("cli", "ask", "--run", "soup", "The capital of France is").stdout
    assert "base" in table
    assert "soup (seed-0)" in table
    assert "woven (seed-0)" in finished.command("cli", "ask", "--run", "woven", "The capital of France is").stdout
    wrong = finished.command("cli", "ask", "--run", "soop", "The capital of France is", check=False)
    assert wrong.returncode == 1
    assert "did you mean 'soup'?" in wrong.stderr


@pytest.mark.parametrize("stage", ["train", "validate"])
def test_help_explains_itself(stage: str, finished: Project) -> None:
    text = finished.command(f"stages.{stage}", "--help").stdout
    assert "example:" in text
    assert f"python -m stages.{stage} --" in text
