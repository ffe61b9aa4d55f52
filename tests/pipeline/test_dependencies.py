"""A stage depends on the code that it runs, no less and no more: for each kind of edit, what runs again.

The project here has never been run: its outs are placeholders that DVC took as good. Of each edit in the list the files
of code are compared, which the stages depend on; what DVC, `plan` and the flow make of such a file, a few tests ask.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from knowtune.evaluation.metrics import METRICS
from knowtune.filters import FILTERS
from knowtune.merging.mixtures import MIXTURES
from knowtune.methods import METHODS
from knowtune.methods.tuners import TUNERS
from knowtune.selectors import SELECTORS
from knowtune.semantics.representations import REPRESENTATIONS
from knowtune.tasks import TASKS
from stages.core.code import CHECK, FAMILIES, PLUMBING
from stages.core.pipeline import read_stages
from tests.pipeline.conftest import ENVIRONMENT, ROOT, Project, copy_project, ran

EDIT = "\n\n_EDITED = True\n"
ROW = re.compile(r"(\S+) {2,}(changed|depends on .*)")
OF_LORA = {f"{stage}@{run}" for stage in ("train", "merge", "evaluate-run") for run in ("lora", "weighed", "woven")}
OF_FISH = {f"{stage}@{run}" for stage in ("train", "merge", "evaluate-run") for run in ("ird", "inside")}
JUDGING = {"baseline", "evaluate-run", "evaluate-mixture"}


def source_of(registry: Mapping[str, str], name: str) -> str:
    return registry[name].partition(":")[0].replace(".", "/") + ".py"


def code_at(pattern: str) -> list[str]:
    found = [path.relative_to(ROOT).as_posix() for path in (ROOT / "knowtune").rglob(pattern)]
    assert found, pattern
    return found


def modules_of(module: str) -> list[str]:
    path = ROOT / module.replace(".", "/")
    return [
        found.relative_to(ROOT).as_posix()
        for found in (path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")])
    ]


# What is edited, and the stages that have other inputs then; a family stands for all of its members.
EDITS = {
    "a method": ([source_of(METHODS, "lora")], OF_LORA | {"select@inside"}),
    "a tuner": ([source_of({"model": TUNERS["FISH"][1]}, "model")], OF_FISH),
    "a selector": ([source_of(SELECTORS, "ird")], {"select@ird"}),
    "a filter of one chain": ([source_of(FILTERS, "nearest")], {"filter@near"}),
    "a mixture": ([source_of(MIXTURES, "ties")], {"mix"}),
    "a metric": ([source_of(METRICS, "known")], {*JUDGING, "gate", "report"}),
    "a metric that nobody names": ([source_of(METRICS, "matthews")], set()),
    "a representation": ([source_of(REPRESENTATIONS, "input_embedding")],
                         {*JUDGING, "answers", "train@weighed", "train@ird"}),
    "another representation": ([source_of(REPRESENTATIONS, "hidden")], set()),
    "a task": ([source_of(TASKS, "knowledge")],
               {*JUDGING, "retention", "prepare", "base", "rehearse", "answers", "select", "preserve", "train", "merge",
                "mix", "gate", "report"}),
    "another task": ([source_of(TASKS, "regression")], set()),
    "a template": (code_at("*.j2"), {"report"}),
    "a selection's picture": (code_at("selectors/plot.py"), {"select"}),
    "what trains": (code_at("trainer.py"), {"base", "select", "train"}),
    "what holds a run to its base": (code_at("preserve/reading.py"), {"train@full", "train@ird", "train@woven"}),
    "a recipe": (code_at("training/recipe.py"), {"base", "select", "train"}),
    "a stage": (["stages/filter.py"], {"filter"}),
    "plumbing": ([name for module in PLUMBING for name in modules_of(module)], set()),
}  # fmt: skip
WORDS = {  # appended, and of no effect
    "a comment": "\n# a remark\n",
    "types alone": "\nif TYPE_CHECKING:\n    from pathlib import Path\n",
}


def small(params: dict[str, Any]) -> None:
    """A member of each kind; no method of PEFT's own, whose check imports PEFT."""
    del params["runs"]["prefix"]
    params["runs"]["weighed"] = {**params["runs"]["lora"], "reweight": {"alpha": -0.5}}


@pytest.fixture(scope="module")
def up_to_date(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = copy_project(tmp_path_factory.mktemp("edits"))
    shutil.copytree(ROOT / "flows", project.folder / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    project.change(small)
    assert "validate" in project.command("flows", "--dry").stdout  # which writes the files of code
    for stage in read_stages(project.folder).values():
        for out in (project.folder / name for name in stage.outs if stage.name != CHECK):
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(stage.name)
    project.command("dvc", "commit", "--force", "--quiet")
    return project


@pytest.fixture(scope="module")
def after_edits(up_to_date: Project) -> dict[str, set[str]]:
    """Make every edit in turn, in one process: which stages have other code, by edit; the last is none."""
    edits = [dict.fromkeys(names, EDIT) for names, _ in EDITS.values()]
    edits += [{source_of(METHODS, "lora"): text} for text in WORDS.values()]
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("edits_script.py")],
        cwd=up_to_date.folder,
        env={**ENVIRONMENT, "PYTHONPATH": str(up_to_date.folder)},
        input=json.dumps([*edits, {}]),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = [set(names) for names in json.loads(done.stdout)]
    assert found.pop() == set()
    return dict(zip([*EDITS, *WORDS], found, strict=True))


@pytest.fixture
def project(up_to_date: Project) -> Iterator[Project]:
    """Whatever a test does to the code is undone."""
    code = [path for top in ("knowtune", "stages") for path in (up_to_date.folder / top).rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in code if path.suffix != ".pyc"}
    yield up_to_date
    for top in ("knowtune", "stages"):
        for path in (up_to_date.folder / top).rglob("*"):
            if path.is_file() and path.suffix != ".pyc" and path not in before:
                path.unlink()
    for path, content in before.items():
        if path.read_bytes() != content:
            path.write_bytes(content)


def again(project: Project) -> dict[str, str]:
    """Name what would run, with the reason."""
    lines = map(ROW.fullmatch, project.command("flows", "--dry").stdout.splitlines())
    return {line[1]: line[2] for line in lines if line}


def edit(project: Project, name: str) -> None:
    with (project.folder / name).open("a", encoding="utf-8") as file:
        file.write(EDIT)


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_reruns_what_runs_it(what: str, after_edits: dict[str, set[str]], up_to_date: Project) -> None:
    names = {name for expected in EDITS[what][1] for name in members(up_to_date, expected)}
    assert after_edits[what] == names


def members(project: Project, family: str) -> set[str]:
    """Name all members of a family, or the one stage that is named."""
    return {name for name in read_stages(project.folder) if family in (name, name.partition("@")[0])}


@pytest.mark.parametrize("what", WORDS)
def test_what_readers_alone_see_reruns_nothing(what: str, after_edits: dict[str, set[str]]) -> None:
    assert after_edits[what] == set()


def test_a_new_member_of_every_family_reruns_nothing(project: Project) -> None:
    for module, (registry, _) in FAMILIES.items():
        name = next(iter(registry))
        source, attribute = registry[name].split(":")
        folder = project.folder / module.replace(".", "/")
        code = (project.folder / source.replace(".", "/")).with_suffix(".py").read_text()
        (folder / "fresh.py").write_text(code.replace(f"class {attribute}", "class Fresh"))
        path = folder / "__init__.py"
        text, line = path.read_text(), f'    "{name}": "{registry[name]}",\n'
        assert line in text
        path.write_text(text.replace(line, line + f'    "fresh": "{module}.fresh:Fresh",\n'))
    tuners = project.folder / "knowtune/methods/tuners.py"
    line = next(line for line in tuners.read_text().splitlines(keepends=True) if '"FISH"' in line)
    tuners.write_text(
        tuners.read_text().replace(line, line + line.replace("FISH", "FRESH").replace(".fish.", ".fresh_tuner."))
    )
    shutil.copytree(tuners.parent / "fish", tuners.parent / "fresh_tuner")
    for path in (tuners.parent / "fresh_tuner").rglob("*.py"):
        path.write_text(path.read_text().replace("knowtune.methods.fish.", "knowtune.methods.fresh_tuner."))
    assert set(again(project)) == {CHECK}


def test_plan_flow_and_dvc_tell_the_truth_after_an_edit(project: Project) -> None:
    path = project.folder / source_of(FILTERS, "band")
    before = path.read_text()
    path.write_text(before + EDIT)
    lines = project.command("cli", "plan").stdout.splitlines()
    planned = {line.split()[0] for line in lines if re.fullmatch(r"\S+ +\S+( s)? +\S+( MB)?", line)}
    assert planned == set(again(project)) == {CHECK, "filter@near", "gate", "report"}
    path.write_text(before)
    assert again(project) == {}
    path.write_text(before + EDIT)
    assert list(status(project)) == [CHECK]  # plain DVC knows no more before the check has run
    assert ran(project.command("dvc", "repro", CHECK).stdout) == [CHECK]
    assert list(status(project)) == ["filter@near"]


def test_a_module_that_is_no_python_is_told_by_its_line(project: Project) -> None:
    (name,) = code_at("trainer.py")
    with (project.folder / name).open("a") as file:
        file.write("\n\ndef\n")
    done = project.command("cli", "plan", check=False)
    assert re.fullmatch(r"error: Syntax error in \S*trainer.py, line \d+: def\n", done.stderr)


def status(project: Project) -> dict[str, Any]:
    return dict(json.loads(project.command("dvc", "status", "--json").stdout))


def test_every_stage_depends_on_its_code_and_every_stage_module_is_in_the_dag() -> None:
    stages = read_stages(ROOT)
    (out,) = stages[CHECK].outs
    for name, stage in stages.items():
        path = f"{out}/{name.replace('@', '/')}.json"
        assert [dep for dep in stage.deps if dep.startswith(out)] == ([path] if name != CHECK else [])
    modules = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"}
    unnamed = {"fetch", "mix", "retention"}  # the default fetches and mixes nothing, and has no further sets
    assert modules - unnamed == {re.findall(r"python -m stages\.(\w+)", stage.command)[0] for stage in stages.values()}


def test_a_stage_is_given_no_path_that_it_neither_reads_nor_writes() -> None:
    for stage in read_stages(ROOT).values():
        words = (word.strip('"') for word in stage.command.split())
        given = [Path(word) for word in words if word.startswith("data/")]
        named = [Path(name) for name in (*stage.deps, *stage.outs)]
        assert not [path for path in given if not any(related(path, name) for name in named)], stage.name


def related(one: Path, other: Path) -> bool:
    return one == other or one in other.parents or other in one.parents


def test_paths_of_outs_live_in_dvc_yaml_alone() -> None:
    outs = {"data/prepared", "data/adapters", "data/selected", "data/filtered", "data/evaluated", "data/code"}
    for path in [*Path(ROOT / "knowtune").rglob("*.py"), *Path(ROOT / "stages").rglob("*.py")]:
        code = re.sub(r'""".*?"""|EXAMPLE = .*?\n\n|EXAMPLE = \(.*?\n\)', "", path.read_text(), flags=re.DOTALL)
        assert not [out for out in outs if out in code], path
