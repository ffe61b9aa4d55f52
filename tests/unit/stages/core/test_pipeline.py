from __future__ import annotations

from pathlib import Path

import pytest

from knowtune.common.errors import UserError
from stages.core.pipeline import flatten, project_out, quick_yaml, read_stages, resolve

ROOT = Path(__file__).resolve().parents[4]
PARAMS = {"threads": 1, "source": {"data": "raw"}, "runs": {"a": {"seeds": [3, 4], "options": {"rank": 2}}, "b": {}}}


def body(**more: object) -> dict[str, object]:
    return {"stages": {"train": {"foreach": "${runs}", "do": {"cmd": "t ${key}", "outs": ["out/${key}"], **more}}}}


def test_every_stage_of_the_project_is_resolved() -> None:
    stages = read_stages(ROOT)
    params = quick_yaml(ROOT / "params.yaml")
    assert {name for name in stages if name.startswith("train@")} == {f"train@{run}" for run in params["runs"]}
    texts = [text for s in stages.values() for text in (s.command, *s.deps, *s.outs, *s.params)]
    assert not [text for text in texts if "${" in text]
    assert stages["report"].metrics == ("data/report/metrics.json",)
    assert set(stages["report"].metrics) < set(stages["report"].outs)


def test_a_member_has_its_own_values() -> None:
    stages = resolve(body(params=["runs.${key}", "threads"], deps=["${source.data}", "m/${item.seeds[1]}"]), {
        **PARAMS, "runs": {"a": PARAMS["runs"]["a"]}  # type: ignore[index]
    })  # fmt: skip
    stage = stages["train@a"]
    assert (stage.command, stage.deps, stage.outs) == ("t a", ("raw", "m/4"), ("out/a",))
    assert stage.params == {"runs.a.seeds": [3, 4], "runs.a.options.rank": 2, "threads": 1}


def test_an_out_with_settings_is_a_path() -> None:
    stages = resolve({"stages": {"v": {"cmd": "v", "outs": [{"x.json": {"persist": True}}], "metrics": ["m"]}}}, {})
    assert stages["v"].outs == ("x.json", "m")


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        (body(deps=["${source.text}"]), "source.text.*params.yaml has no 'text' there"),
        (body(deps=["${item.options.rank}"]), "item.options.rank"),
        (body(params=[{"other.yaml": ["x"]}]), "train@a.params: got a mapping"),
        ({"stages": {"x": {"foreach": "${threads}", "do": {"cmd": "x"}}}}, "x.foreach: got int"),
    ],
)
def test_what_cannot_be_read_is_refused(pipeline: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve(pipeline, PARAMS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: [", r"dvc.yaml: not readable as YAML: while parsing a flow node .* at line 2"),
        ("- a", "dvc.yaml: got list; allowed: a mapping"),
        ("", "dvc.yaml: got no stages; allowed: a mapping of stages by name"),
    ],
)
def test_a_broken_file_is_refused_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(text)
    (tmp_path / "params.yaml").write_text("")
    with pytest.raises(UserError, match=message) as caught:
        read_stages(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_out_is_where_dvc_yaml_says() -> None:
    stages = read_stages(ROOT)
    assert [project_out("base")] == list(stages["base"].outs)
    assert [project_out("merge", "lora")] == list(stages["merge@lora"].outs)
    assert project_out("fetch") + "x" == project_out("fetch", "x")


def test_flat_keys() -> None:
    assert dict(flatten({"a": {"b": [1], "c": {}}, "d": None})) == {"a.b": [1], "a.c": {}, "d": None}


def test_vars_stand_for_keys_that_params_leave_out() -> None:
    pipeline = {"vars": [{"evaluate": {"sets": {}}}], "stages": {
        "base": {"cmd": "b", "params": ["evaluate"]},
        "measure": {"foreach": "${evaluate.sets}", "do": {"cmd": "m ${item.path}", "outs": ["out/${key}"]}},
    }}  # fmt: skip
    without = resolve(pipeline, {"evaluate": {"size": 1}})
    assert set(without) == {"base"}
    assert without["base"].params == {"evaluate.size": 1}  # what DVC compares is the file alone
    stages = resolve(pipeline, {"evaluate": {"size": 1, "sets": {"x": {"path": "p"}}}})
    assert (stages["measure@x"].command, stages["measure@x"].family) == ("m p", "evaluate.sets")
