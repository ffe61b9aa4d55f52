from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from knowtune.common.errors import UserError
from knowtune.training.recipe import Recipe
from stages.core.params import load_params, read_yaml
from stages.core.renamed import RENAMED, TRAINING, rename_keys

DEFAULT: dict[str, Any] = read_yaml(Path(__file__).resolve().parents[4] / "tests/data/params.yaml")


def lines(tmp_path: Path, params: dict[str, Any]) -> list[str]:
    path = tmp_path / "params.yaml"
    YAML(typ="safe").dump(params, path)
    with pytest.raises(UserError) as error:
        load_params(path)
    return [line.strip() for line in str(error.value).splitlines()[1:]]


def test_an_old_key_is_refused_with_its_new_name_and_nothing_else_is_said(tmp_path: Path) -> None:
    params = copy.deepcopy(DEFAULT)
    params["training"]["accumulation"] = params["training"].pop("gradient_accumulation_steps")
    params["runs"]["lora"]["training"] = {"checkpoint_steps": 50}
    assert lines(tmp_path, params) == [
        "runs.lora.training.checkpoint_steps: is now save_steps",
        "training.accumulation: is now gradient_accumulation_steps",
    ]


def test_the_value_of_an_old_key_is_checked_too(tmp_path: Path) -> None:
    params = copy.deepcopy(DEFAULT)
    del params["training"]["lr_scheduler_type"]
    params["training"]["schedule"] = "cosin"
    assert lines(tmp_path, params) == [
        "training.lr_scheduler_type: got 'cosin'; allowed: 'constant', 'constant_with_warmup', 'linear' or "
        "'cosine'; did you mean 'cosine'?",
        "training.schedule: is now lr_scheduler_type",
    ]


def test_a_new_key_beside_the_old_one_stays() -> None:
    raw = {"training": {"log_steps": 1, "logging_steps": 2}}
    problems, renamed = rename_keys(raw)
    assert [problem.where for problem in problems] == ["training.log_steps"]
    assert renamed == {"training": {"logging_steps": 2}}
    assert raw == {"training": {"log_steps": 1, "logging_steps": 2}}


@pytest.mark.parametrize("raw", [{}, {"training": 3, "runs": [1]}, {"runs": {"lora": None, 3: {"training": "x"}}}])
def test_what_has_no_old_key_stays_whatever_its_shape(raw: dict[str, Any]) -> None:
    assert rename_keys(raw) == ([], raw)


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_every_entry_of_the_table_is_found_where_it_says(old: str, new: str) -> None:
    *parents, key = old.replace("*", "any").split(".")
    raw: dict[str, Any] = {key: 1}
    for parent in reversed(parents):
        raw = {parent: raw}
    problems, _ = rename_keys(raw)
    assert f"{'.'.join([*parents, key])}: is now {new}" in map(str, problems)


@pytest.mark.parametrize(("old", "new"), TRAINING.items())
def test_a_training_key_is_the_new_one_alone(old: str, new: str) -> None:
    assert new in Recipe.model_fields and old not in Recipe.model_fields
