from __future__ import annotations

import pytest

from knowtune.settings import is_local, is_template, template_columns


@pytest.mark.parametrize(("column", "found"), [("question", False), ("{q}", True), ("Q: {q} A: ", True), ("{{", True)])
def test_a_template_has_a_brace(column: str, found: bool) -> None:
    assert is_template(column) is found


@pytest.mark.parametrize(
    ("template", "columns"),
    [("Q: {q}, {other column}?", ["q", "other column"]), ("{a}{a}", ["a", "a"]), ("{{a}}", []), ("{}", [""])],
)
def test_the_columns_that_a_template_names(template: str, columns: list[str]) -> None:
    assert template_columns(template) == columns


@pytest.mark.parametrize("template", ["{q", "q} {a}", "{a}}"])
def test_braces_that_do_not_pair_up(template: str) -> None:
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
    ],
)
def test_a_path_begins_as_paths_do(repo: str, local: bool) -> None:
    assert is_local(repo) is local
