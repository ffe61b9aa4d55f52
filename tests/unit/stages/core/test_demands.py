"""A new member says itself what it demands of the params around it; nothing in stages/core knows it."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from knowtune.common.errors import Problem
from knowtune.methods import METHODS
from knowtune.methods.lora import Lora
from knowtune.registry import Context
from knowtune.selectors import SELECTORS
from knowtune.selectors.everything import Everything
from stages.core.faults import faults_of
from stages.core.params import read_yaml

DEFAULT: dict[str, Any] = read_yaml(Path(__file__).resolve().parents[4] / "tests/data/params.yaml")


class Careful(Lora):
    def demands(self, context: Context) -> list[Problem]:
        few = [] if context.has_validation else [Problem(context.where, "no validation rows", "validation rows")]
        deep = [Problem(f"{context.where}.options", "a slow check", "none")] if context.deep else []
        return super().demands(context) + few + deep


class Lonely(Everything):
    def demands(self, context: Context) -> list[Problem]:
        seeds = context.section.get("seeds", [])
        return super().demands(context) + [Problem(f"{context.where}.seeds", repr(seed), "0") for seed in seeds if seed]


@pytest.fixture
def raw(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    module = ModuleType("newcomers")
    vars(module).update(Careful=Careful, Lonely=Lonely)
    monkeypatch.setitem(sys.modules, "newcomers", module)
    monkeypatch.setitem(METHODS, "careful", "newcomers:Careful")
    monkeypatch.setitem(SELECTORS, "lonely", "newcomers:Lonely")
    params = copy.deepcopy(DEFAULT)
    params["runs"]["lora"]["method"] = "careful"
    params["selections"]["clean"] |= {"strategy": "lonely"}
    return params


def test_what_a_member_demands_is_said_where_it_stands(raw: dict[str, Any]) -> None:
    assert faults_of(raw, deep=False) == []
    assert [str(p) for p in faults_of(raw, deep=True)] == ["runs.lora.options: got a slow check; allowed: none"]
    raw["selections"]["clean"]["seeds"] = [0, 7]
    raw["source"]["templates"]["validation"] = 0
    assert [str(problem) for problem in faults_of(raw, deep=False)] == [
        "runs.lora: got no validation rows; allowed: validation rows",
        "selections.clean.seeds: got 7; allowed: 0",
    ]


def test_a_quantised_base_is_for_adapters(raw: dict[str, Any]) -> None:
    raw["compute"]["quantize"] = "4bit"
    refused = {problem.where for problem in faults_of(raw, deep=False)}
    assert refused == {"runs.full.method", "runs.fish.method", "runs.ird.method"}
