"""What is written as YAML comes back equal: from our reader, from DVC's own, and through DVC's lock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import dumps_yaml, parse_yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from knowtune.common.errors import UserError
from stages.core.params import load_params, read_yaml, write_yaml, yaml_text
from stages.core.pipeline import quick_yaml

ROOT = Path(__file__).resolve().parents[4]
SIGNS = "?:#-'\"\\\n\r\t {}[],&*!|>%@`=<~.0123456789eExXoyn\x85\u2028\u2029\ufeff\xa0\x00\x07\x1b\x7f\x9f\ufffe😀é$"
ODD = ["why?", "?", "? a", "?a", "a:", ":a", "a:b", "a: b", "# a", "a #b", "a#", "-", "- a", "--", "---",
       "--- a", "...", "yes", "no", "on", "off", "y", "n", "null", "Null", "~", "true", "False", "1", "+1",
       "1e3", "1e-3", "0x1", "0o7", "0b1", "012", "1_000", "1.", ".5", ".inf", ".nan", "12:30", "1:2:3",
       "2026-11-27", "2026-11-27T10:00:00Z", "<<", "!tag", "&a", "*a", "%a", "@a", "`a`", "'a'", '"a"',
       "it's", 'a "b" c', "\\", "a\\nb", " a", "a ", " ", "", "a\nb", "a\n", "\n", "a\r\nb", "\ta", "a\tb",
       "😀", "\x07", "\x00", "\x1b[0m", "\x85", "a\x85b", "\u2028", "\ufeffa", "\u200b", "\ufffe", "=",
       "word " * 2000, "x" * 9000, "${a}", "\\${a}", "$", "{a}", "{", "[a, b", "a]", "a,b", "|", ">",
       "http://x.y/z?a=b#c"]  # fmt: skip


def shapes(text: str) -> dict[str, Any]:
    """A text wherever a params file may have one."""
    return {"one": text, "list": [text, "b"], "inner": {"x": text, "deep": [{"y": [text]}]}, "keys": {text: text}}


@pytest.mark.parametrize("text", ODD)
def test_odd_words_come_back(text: str, tmp_path: Path) -> None:
    comes_back(shapes(text), tmp_path)


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(st.one_of(st.text(max_size=20), st.text(alphabet=SIGNS, max_size=12)))
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    comes_back(shapes(text), tmp_path_factory.getbasetemp())


@settings(max_examples=70, deadline=None, database=None, derandomize=True)
@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False)))
def test_any_other_value_comes_back_with_its_type(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    comes_back({"one": value, "list": [value], "map": {"x": value}}, tmp_path_factory.getbasetemp())


def comes_back(value: dict[str, Any], folder: Path) -> None:
    path = folder / "x.yaml"
    write_yaml(path, value)
    assert repr(read_yaml(path)) == repr(value)  # repr tells 1 from 1.0 and from True, and the order of keys
    assert quick_yaml(path) == parse_yaml(path.read_text(encoding="utf-8"), path) == value
    lines = "".join(f"{key}: {yaml_text(item, one_line=True)}\n" for key, item in value.items())
    assert lines.count("\n") == len(value)
    path.write_bytes(f"# a comment\n{lines}".encode())
    assert repr(read_yaml(path)) == repr(value)
    assert quick_yaml(path) == parse_yaml(path.read_text(encoding="utf-8"), path) == value


@pytest.mark.parametrize("text", ODD)
def test_what_the_lock_of_dvc_cannot_keep_is_a_fault(text: str, tmp_path: Path) -> None:
    params = read_yaml(ROOT / "params.yaml")
    params["tracking"]["experiment"] = f"a{text}"
    write_yaml(tmp_path / "params.yaml", params)
    if parse_yaml(dumps_yaml(shapes(text)), "dvc.lock") != shapes(text):
        with pytest.raises(UserError, match=r"tracking.experiment: got .*x85.*allowed: a text without"):
            load_params(tmp_path / "params.yaml")
    else:
        assert "\x85" not in text


@pytest.mark.parametrize("text", ["a: [why?, b]", "a: {b: c?}", "a: [x:y]", "a: {b: http://x.y}"])
def test_what_dvc_cannot_read_is_not_called_good(text: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError, match=r"(?s)params.yaml: not readable as YAML: .*line 1.*may need quotes"):
        read_yaml(tmp_path / "params.yaml")


def test_values_are_written_for_people(tmp_path: Path) -> None:
    same = ["why?", 0.00005]
    write_yaml(tmp_path / "x.yaml", {"b": {"x": same, "y": same}, "a": None, "c": 1e-12, "d": 2.0})
    assert (tmp_path / "x.yaml").read_text() == (
        "b:\n  x:\n  - why?\n  - 0.00005\n  y:\n  - why?\n  - 0.00005\na: null\nc: 1e-12\nd: 2.0\n"
    )
    assert yaml_text({"a": ["why?", 1.0, None, "x\ny"]}, one_line=True) == "{a: ['why?', 1.0, null, \"x\\ny\"]}"
