from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Literal

import pytest

from knowtune.methods import METHODS
from knowtune.preserve import OPENED
from knowtune.semantics.representations import REPRESENTATIONS
from stages.core.code import code_of, refresh_code, write_code
from stages.core.members import REGISTRIES
from stages.core.params import load_params, write_yaml
from stages.core.schema import Params, RunParams, SelectionParams

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def params() -> Params:
    return load_params(ROOT / "tests/data/params.yaml")


def file_of(member: str) -> str:
    return member.partition(":")[0].replace(".", "/") + ".py"


def test_code_leads_from_the_stage_through_functions_and_packages_but_not_through_registries(params: Params) -> None:
    code = code_of("stages.train", params.runs["lora"], params)
    assert {"stages/train.py", "stages/core/models.py", "stages/__init__.py", file_of(METHODS["lora"])} <= set(code)
    assert not [name for name in code if name.removesuffix("/__init__.py").replace("/", ".") in REGISTRIES]
    assert not {
        "stages/core/schema.py",
        "stages/runner/command.py",
        "stages/runner/execute.py",
        "stages/core/code.py",
    } & set(code)
    assert list(code) == sorted(code)


def test_how_a_run_or_a_selection_trains_is_its_code(params: Params) -> None:
    for module, section in (("stages.train", params.runs["lora"]), ("stages.select", params.selections["clean"])):
        assert "knowtune/training/recipe.py" in code_of(module, section, params)


def test_a_default_of_a_section_is_code(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(RunParams):
        train_on: Literal["all", "chosen"] = "chosen"

    Other.__name__ = "RunParams"
    run = params.runs["lora"]
    same, other = (code_of("stages.train", kind(**dict(run)), params) for kind in (RunParams, Other))
    assert same == code_of("stages.train", run, params)
    assert {name for name in same if same[name] != other[name]} == {"defaults of RunParams"}


def test_a_method_inside_of_another_counts(params: Params) -> None:
    run = RunParams(
        selection="all", method="lora", options={"inner": {"method": "full", "options": {"x": [1]}}}, seeds=[0]
    )
    code = code_of("stages.train", run, params)
    assert {file_of(METHODS["lora"]), file_of(METHODS["full"])} <= set(code)
    assert file_of(METHODS["fish"]) not in code


def test_what_takes_the_place_of_pefts_variant_is_kasas_code_alone(params: Params) -> None:
    """It is installed by a registry of strings, of which no import tells."""
    run = RunParams(selection="all", method="kasa", options={"rank": 2, "alpha": 4.0}, seeds=[0])
    parts = {
        f"knowtune/methods/kasa/tuner/{name}.py" for name in ("install", "variant", "factors", "files", "decompose")
    }
    for module in ("stages.train", "stages.merge"):
        assert parts <= set(code_of(module, run, params))
        assert not any("/kasa/" in name for name in code_of(module, params.runs["lora"], params))


def test_a_method_woven_into_another_is_its_code_and_no_other_method_is(params: Params) -> None:
    inner = {"method": "kasa", "options": {"rank": 2, "alpha": 4.0}}
    run = RunParams.model_validate({"selection": "all", "method": "imsm", "inner": inner, "seeds": [0]})
    for module in ("stages.train", "stages.merge"):
        code = set(code_of(module, run, params))
        named = {name for name, member in METHODS.items() if file_of(member) in code}
        assert named == {"imsm", "kasa", "lora"}  # kasa is a kind of lora
        parts = {f"knowtune/methods/imsm/tuner/{name}.py" for name in ("model", "layer", "gate", "cache", "paired")}
        assert {*parts, "knowtune/methods/kasa/tuner/install.py"} <= code


def test_a_run_that_keeps_nothing_does_not_run_what_would_keep_it(params: Params) -> None:
    plain, parts = params.runs["lora"], {file_of(target) for target in OPENED.values()}
    keeps = RunParams.model_validate({**plain.model_dump(), "preserve": {"distill": {"on": "self"}}})
    assert not parts & set(code_of("stages.train", plain, params))
    assert {*parts, "knowtune/preserve/distill.py"} <= set(code_of("stages.train", keeps, params))


@pytest.mark.parametrize(("form", "opens"), [("linear", True), ("flow", False), ("stm", False)])
def test_a_run_that_weighs_by_the_bases_loss_needs_no_representation(params: Params, form: str, opens: bool) -> None:
    run = RunParams.model_validate({**params.runs["lora"].model_dump(), "reweight": {"form": form}})
    representation = file_of(REPRESENTATIONS[params.semantics.representation])
    assert (representation in code_of("stages.train", run, params)) is opens


def test_the_methods_of_a_selection_are_its_adapter_s_and_its_trial_s(params: Params) -> None:
    chosen = {"filter": "clean", "strategy": "ird"}
    short = {"learning_rate": 0.1, "batch_size": 1}
    adapter = {"method": "lora", "warmup_steps": 1, **short}

    def methods(**more: object) -> set[str]:
        code = code_of("stages.select", SelectionParams.model_validate({**chosen, **more}), params)
        return {name for name, member in METHODS.items() if file_of(member) in code}

    assert methods() == set()
    assert methods(adapter=adapter) == {"lora"}
    assert methods(adapter=adapter, trial={"steps": 1, **short}) == {"lora", "fish"}


def test_a_representation_counts_where_it_is_opened(params: Params) -> None:
    member = file_of(REPRESENTATIONS[params.semantics.representation])
    assert member in code_of("stages.answers", None, params)
    assert member in code_of("stages.train", params.runs["beacons"], params)
    assert member not in code_of("stages.train", params.runs["lora"], params)
    judging = params.evaluate.model_copy(update={"metrics": ["reliability"]})
    assert member in code_of("stages.evaluate", params.runs["lora"], params)
    assert member not in code_of(
        "stages.evaluate", params.runs["lora"], params.model_copy(update={"evaluate": judging})
    )


def test_what_is_named_by_strings_stands_in_registries_alone() -> None:
    """A member named elsewhere would be imported, and be no part of anybody's code."""
    named = {
        path.relative_to(ROOT).with_suffix("").as_posix().removesuffix("/__init__").replace("/", ".")
        for top in ("knowtune", "stages")
        for path in (ROOT / top).rglob("*.py")
        if re.search(r"[\"']knowtune\.[\w.]+:\w+[\"']", path.read_text(encoding="utf-8"))
    }
    assert named == REGISTRIES


def test_files_are_written_where_stages_look_and_only_where_they_say_something_new(
    params: Params, tmp_path: Path
) -> None:
    out = tmp_path / "code"
    code = {"foreach": "${runs}", "do": {"cmd": "python -m stages.train", "deps": ["code/train/${key}.json", "x"]}}
    check = {"cmd": "python -m stages.validate", "outs": [{"code": {"persist": True}}]}
    report = {"cmd": "python -m stages.report", "deps": ["code/report.json"]}
    write_yaml(tmp_path / "dvc.yaml", {"stages": {"validate": check, "train": code, "report": report}})
    write_yaml(tmp_path / "params.yaml", {"runs": {"lora": {}, "full": {}}})
    (out / "train").mkdir(parents=True)
    (out / "train/lora.json").write_text("{")  # cut short
    (out / "gone").mkdir()
    (out / "gone/x.json").write_text("{}")
    refresh_code(tmp_path, params)
    assert {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} == {
        "report.json", "train/full.json", "train/lora.json",
    }  # fmt: skip
    assert not (out / "gone").exists()
    assert json.loads((out / "train/lora.json").read_text()) == code_of("stages.train", params.runs["lora"], params)
    templates = [name for name in json.loads((out / "report.json").read_text()) if name.endswith(".j2")]
    assert {Path(name).stem for name in templates} >= {"page.html", "frontier.html"}  # of the page, and of a section
    before = (out / "report.json").stat().st_mtime_ns
    write_code(tmp_path, out, params)
    assert (out / "report.json").stat().st_mtime_ns == before
