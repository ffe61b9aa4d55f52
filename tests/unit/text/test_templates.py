from __future__ import annotations

import sys
from pathlib import Path

import pytest

from knowtune.common.errors import UserError
from knowtune.text.templates import is_local, is_template, local_path, template_columns


@pytest.mark.parametrize(("column", "found"), [("question", False), ("{q}", True), ("Q: {q} A: ", True), ("{{", True)])
def test_a_template_has_a_brace(column: str, found: bool) -> None:
    assert is_template(column) is found


@pytest.mark.parametrize(
    ("template", "columns"),
    [("Q: {q}, {other column}?", ["q", "other column"]), ("{a}{a}", ["a", "a"]), ("{{a}}", []), ("{}", [""])],
)
def test_the_columns_that_a_template_names(template: str, columns: list[str]) -> None:
    assert template_columns(template) == columns


@pytest.mark.parametrize("template", ["{q", "q} {a}", "{a}}", "{a:>9}", "{a!r}", "{a:{b}}"])
def test_braces_that_do_not_pair_up_or_hold_more_than_a_name(template: str) -> None:
    with pytest.raises(ValueError, match=r"[{}]|expected"):
        template_columns(template)


@pytest.mark.parametrize(
    ("repo", "local"),
    [
        ("acme/tiny", False),
        ("tiny", False),
        ("./tiny", True),
        ("../a/b", True),
        ("/models/tiny", True),
        ("~/tiny", True),
        ("PACKAGE/tiny/model", True),
    ],
)
def test_a_path_begins_as_paths_do(repo: str, local: bool) -> None:
    assert is_local(repo) is local


def test_package_stands_for_the_folder_of_an_installed_package() -> None:
    assert local_path("PACKAGE/knowtune/tasks", "p") == Path(sys.modules["knowtune"].__path__[0]) / "tasks"


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match=r"^p: the Python package no_such_thing is not installed; run `.*h-thing`"):
        local_path("PACKAGE/no_such_thing/model", "p")
    with pytest.raises(UserError, match=r"^p: PACKAGE/knowtune/gone: nothing is there$"):
        local_path("PACKAGE/knowtune/gone", "p")
