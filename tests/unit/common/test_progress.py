from __future__ import annotations

import sys

import pytest

from knowtune.common.progress import progress, progress_unsized


def test_everything_comes_in_order_and_quietly(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress([3, 1, 2], "x")) == [3, 1, 2]
    assert capsys.readouterr().err == ""


def test_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(["a", "b"], "answers", every=-1.0)) == ["a", "b"]
    assert capsys.readouterr().err == "answers: 1 of 2, 0 s left\nanswers: 2 of 2, 0 s left\n"


def test_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(progress([1, 2, 3], "answers")) == [1, 2, 3]
    assert "answers" in capsys.readouterr().err


def test_what_has_no_number_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress_unsized(iter("abc"), "fetch", every=-1.0)) == ["a", "b", "c"]
    assert capsys.readouterr().err == "fetch: 1 rows\nfetch: 2 rows\nfetch: 3 rows\n"
    assert list(progress_unsized(iter("abc"), "fetch")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
