"""dvc.yaml's deps cover what each stage imports: a file that is not listed would go stale silently."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import grimp
import pytest
from ruamel.yaml import YAML

from tests.pipeline.conftest import ROOT

FAMILIES = ("filters", "selectors", "methods", "mixtures", "metrics", "tasks", "representations")
# They decide whether a stage runs, not what it computes (docs/decisions/0006).
PLUMBING = {
    f"stages.core.{name}" for name in ("command", "params", "schema", "faults", "plain", "shape", "warm", "forks")
}
REGISTRIES = {f"knowtune.{family}" for family in FAMILIES} | {"knowtune", "stages", "stages.core"}
NOT_USED = {"evaluate-mixture": {"methods"}}  # a mixture is a plain checkpoint: no method opens it
STAGES: dict[str, dict[str, Any]] = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("knowtune", "stages", exclude_type_checking_imports=True, cache_dir=None)


def transitive_imports(graph: grimp.ImportGraph, start: str) -> set[str]:
    seen: set[str] = set()
    todo = [start]
    while todo:
        module = todo.pop()
        if module in seen or module in PLUMBING:
            continue
        seen.add(module)
        todo += graph.find_modules_directly_imported_by(module)
        if module.removeprefix("knowtune.") in FAMILIES:  # names members as strings
            todo += graph.find_children(module)
    return seen


@pytest.mark.parametrize("name", STAGES)
def test_deps_cover_imports(name: str, graph: grimp.ImportGraph) -> None:
    body = STAGES[name].get("do", STAGES[name])
    found = re.search(r"python -m (stages\.\w+)", body["cmd"])
    assert found
    deps = set(body["deps"])
    covered_families = NOT_USED.get(name, set()) | {
        family
        for family in FAMILIES
        if any(dep == f"knowtune/{family}" or dep.startswith(f"knowtune/{family}/$") for dep in deps)
    }
    missing, needed = set(), set()
    for module in transitive_imports(graph, found[1]) - REGISTRIES:
        path = module.replace(".", "/") + ".py"
        family = module.split(".")[1]
        if family in covered_families or f"knowtune/{family}" in deps:
            continue
        needed.add(path)
        if path not in deps:
            missing.add(path)
    assert not missing, f"add to dvc.yaml, stage {name}, deps: {sorted(missing)}"
    listed = {dep for dep in deps if re.fullmatch(r"(knowtune|stages)/[\w/]+\.py", dep)}
    assert not listed - needed, f"no import leads to these deps of {name}: {sorted(listed - needed)}"


def test_every_dep_exists() -> None:
    for stage in STAGES.values():
        for dep in stage.get("do", stage)["deps"]:
            if dep.startswith(("knowtune/", "stages/")) and "${" not in dep:
                assert (ROOT / dep).exists(), dep


def test_every_stage_module_is_in_the_dag() -> None:
    modules = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"}
    commands = " ".join(stage.get("do", stage)["cmd"] for stage in STAGES.values())
    assert modules == set(re.findall(r"python -m stages\.(\w+)", commands))


def test_paths_of_outs_live_in_dvc_yaml_alone() -> None:
    outs = {"data/prepared", "data/adapters", "data/selected", "data/filtered", "data/evaluated"}
    for path in [*Path(ROOT / "knowtune").rglob("*.py"), *Path(ROOT / "stages").rglob("*.py")]:
        code = re.sub(r'""".*?"""|EXAMPLE = .*?\n\n|EXAMPLE = \(.*?\n\)', "", path.read_text(), flags=re.DOTALL)
        assert not [out for out in outs if out in code], path
