from __future__ import annotations

import argparse
import importlib
from typing import Any

import pytest

from knowtune.common.errors import UserError
from tests.unit.stages.test_answers import settings


@pytest.mark.parametrize("name", ["preserve", "rehearse", "select", "train"])
def test_what_writes_work_is_one_process_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stage: Any = importlib.import_module(f"stages.{name}")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=rf"^{name}: got several processes; allowed: one. Stages under a launcher are "):
        stage.run(argparse.Namespace(name="lora"), settings())
