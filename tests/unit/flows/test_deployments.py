"""What a deployed run does around its stages, with the stages themselves left out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
from prefect.states import Completed

from flows import deployments
from flows.remote import Remote
from flows.run import Ended


@pytest.mark.parametrize("remote", [None, Remote("store", ())])
def test_a_night_that_judges_twice_says_once_that_nothing_is_sent(
    remote: Remote | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[str] = []
    pull = deployments.pull.fn

    def reproduce(*_: Any, before: Callable[[], None], after: Callable[[], None], **__: Any) -> Ended:
        before()
        done.append("stages")
        after()
        return Ended(0, "", worked=True)

    def push(*_: Any, **__: Any) -> Any:
        done.append("push")
        return Completed()

    for name, stand_in in {
        "claim_folder": lambda *_, **__: nullcontext(),
        "find_remote": lambda _: remote,
        "bring": lambda *_: done.append("pull"),
        "pull": lambda folder, update, again, **_: pull(folder, update, again=again),
        "push": push,
        "reproduce": reproduce,
        "refresh": lambda *_, **__: True,
        "crown": lambda *_, **__: Completed(message="promoted"),
        "default_workers": lambda _: 1,
    }.items():
        monkeypatch.setattr(deployments, name, stand_in)
    deployments.nightly.fn.__wrapped__()
    printed = capsys.readouterr().out.count("no DVC remote is configured")
    night = (1, ["stages"] * 2) if remote is None else (0, ["pull", "stages", "push"] * 2)
    assert (printed, done) == night
