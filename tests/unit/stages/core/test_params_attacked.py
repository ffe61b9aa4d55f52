"""Whatever stands in a params file, a person is told what is wrong with it, and nothing absurd is called good."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from knowtune.common.errors import UserError
from stages.core.faults import faults_of
from stages.core.params import load_params, read_yaml
from stages.core.schema import Params
from tests.unit.stages.core.test_params import DEFAULT, GOOD, ROOT, message

STEADY: dict[str, Any] = {
    "derandomize": True, "deadline": None, "database": None, "suppress_health_check": list(HealthCheck)
}  # fmt: skip
MADE: dict[str, dict[str, Any]] = {"default": DEFAULT}
for _name, _edit in GOOD.items():
    MADE[_name] = copy.deepcopy(DEFAULT)
    _edit(MADE[_name])


def nodes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in nested mappings and lists."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        yield (*path, key)
        yield from nodes(inner, (*path, key))


def put(params: dict[str, Any], path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        params = params[key]
    params[path[-1]] = copy.deepcopy(value)


ODD = [
    None, True, 0, -1, 7, 2**40, 1.5, 5e-324, 1e300, math.nan, math.inf, "", " ",
    "\u200b", "\x00", "a\x07b", "\ud800", "x" * 5000,
    "..", "/", "*", "{", "}", "{}", "{a.b!r:>9}", "a\nb", "$(touch x)", 'a"b', "data/base",
    [], [[]], [None], ["a", ["b"]], ["a", "a"], {},
    {"a": {"b": []}}, {1: 2}, {None: 1}, {"": ""}, {"a.b": 1}, b"bytes", {1}, (1,), object,
]  # fmt: skip
numbers = st.integers() | st.floats() | st.booleans()
scalars = st.sampled_from(ODD) | st.text(max_size=8) | numbers | st.none() | st.binary(max_size=3)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
more = st.lists(st.tuples(st.integers(0, 10**6), values), max_size=3)
PLACES = [(name, path) for name, params in MADE.items() for path in nodes(params)]


def check(raw: dict[str, Any], *, deep: bool = False) -> None:
    """Only faults that can be printed; a file without faults is one that the schema takes."""
    problems = faults_of(raw, deep=deep)
    for problem in problems:
        assert problem.where
        assert len(str(problem)) < 5000
    if not problems:
        Params.model_validate(raw)


def test_places_take_odd_values_or_say_why_not() -> None:
    """A third of the values at each place, by turns: keys of one kind stand together, so each kind meets them all."""
    seen: set[tuple[Any, ...]] = set()
    for name, path in PLACES:
        family = (path[0], *path[2:]) if path[0] in ("runs", "selections", "filters") and len(path) > 1 else path
        if (name != "default" and path[0] not in ("source", "task", "hub", "base")) or family in seen:
            continue
        seen.add(family)
        for value in [*ODD, 10**5000][len(seen) % 3 :: 3]:
            raw = copy.deepcopy(MADE[name])
            put(raw, path, value)
            check(raw)


def test_every_option_of_peft_takes_every_odd_value_or_says_why_not() -> None:
    for key in (
        "r",
        "target_modules",
        "use_bdlora",
        "layers_pattern",
        "rank_pattern",
        "lora_alpha",
        "init_lora_weights",
    ):
        for value in ODD:
            raw = copy.deepcopy(DEFAULT)
            raw["runs"]["delora"] |= {"type": "lora", "options": {"r": 4, key: value}}
            check(raw, deep=True)
    for value in ODD:
        raw = copy.deepcopy(DEFAULT)
        raw["runs"]["delora"]["type"] = value
        check(raw, deep=True)


@settings(max_examples=300, **STEADY)
@given(
    place=st.sampled_from(PLACES), value=values, others=st.lists(st.tuples(st.integers(0, 10**6), values), max_size=3)
)
def test_any_values_anywhere(place: tuple[str, tuple[Any, ...]], value: Any, others: list[tuple[int, Any]]) -> None:
    raw = copy.deepcopy(MADE[place[0]])
    put(raw, place[1], value)
    for number, other in others:
        left = list(nodes(raw))
        put(raw, left[number % len(left)], other)
    check(raw)


def load(path: Path, text: str | bytes) -> Params | None:
    """Load a text as params; a `UserError` is the one exception that may come, and it is short."""
    path.write_bytes(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)
    try:
        return load_params(path)
    except UserError as error:
        assert len(str(error)) < 100_000
        return None


PIECES = [
    *"{}[]:,&*#?|-<>=!%@\\`'\" \t\n", "---\n", "...\n", "<<: *a\n", "&a ", "*a", "!!int ", "!!python/object:os.system ",
    "!!binary ", "!!set ", "!!omap ", "!!timestamp ", "!x ", "2001-99-99", "0x", "1_000", "1e400", ".inf", ".nan", "~",
    "threads: ", "runs: ", "  lora: ", "- ", "\ufeff", "\u2028", "\x00", "é", "\U0001f600", "%YAML 1.1\n", "%TAG ! !\n",
    "yes", "12:30", "'", '"\\u',
]  # fmt: skip
TEXT = (ROOT / "tests/data/params.yaml").read_text(encoding="utf-8")


@settings(max_examples=300, **STEADY)
@given(
    text=st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=25).map("".join) | st.binary(max_size=40),
    start=st.integers(0, len(TEXT)), inside=st.booleans(), cut=st.integers(0, 30),
)  # fmt: skip
def test_any_text(text: str | bytes, start: int, inside: bool, cut: int, tmp_path_factory: Any) -> None:
    """Odd text alone, or put into a good file in the place of some of it."""
    part = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    whole = TEXT.encode()
    near = slice(max(0, start - 300), start), slice(start + cut, start + 300)  # a part of the file is read sooner
    load(tmp_path_factory.getbasetemp() / "odd.yaml", whole[near[0]] + part + whole[near[1]] if inside else part)


def bomb(levels: int, line: str) -> str:
    return "a0: &a0 {x: 1}\n" + "".join(line.format(i, i + 1) for i in range(levels))


TEXTS: list[tuple[str | bytes, str]] = [
    ("", "got nothing, the file is empty; allowed: a mapping of sections"),
    ("# only words\n", "got nothing, the file is empty"),
    ("- threads: 1\n", "got list [{'threads': 1}]; allowed: a mapping of sections"),
    ("just words", "got str 'just words'; allowed: a mapping of sections"),
    ("a: " + "[" * 2000, "not readable as YAML: line 1, column 43: more than 40 levels, one in the other"),
    ("a: " + "[" * 60 + "]" * 60, "not readable as YAML: line 1, column 43: more than 40 levels, one in the other"),
    ("".join(f"{' ' * i}a:\n" for i in range(1000)), "not readable as YAML: line 41, column 41: more than 40 levels"),
    ("a: " + "9" * 5000, "not readable as YAML: Exceeds the limit (4300 digits)"),
    ("threads: 0x" + "f" * 5000, "threads: got a whole number of 20000 bits; allowed: a number of up to 64 bits"),
    ("a: &x [*x]", "line 1, column 4: a value that holds itself"),
    (bomb(30, "a{1}: &a{1} [*a{0}, *a{0}]\n"), "more than 100000 values, references unfolded"),
    (bomb(30, "a{1}: &a{1}\n  <<: [*a{0}, *a{0}]\n"), "more than 100000 values, references unfolded"),
    (bomb(200, "a{1}: &a{1} {{b: *a{0}}}\n"), "more than 40 levels, one in the other"),
    ("? [a, b]\n: 1\n", "line 1, column 3: a key that is a list or a mapping; allowed: a name"),
    ("threads: 1\nthreads: 2\n", "line 2, column 1: while constructing a mapping found duplicate key"),
    ("a:\n\tb: 1", "line 2, column 1: while scanning for the next token found character that cannot start any token"),
    ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor for the tag"),
    ("a: 2001-99-99", "not readable as YAML: month must be in 1..12"),
    ("threads: 2001-01-01", "threads: got date datetime.date(2001, 1, 1); allowed: a text, a number, true"),
    ("threads: !!set {b}", "threads: got set {'b'}; allowed: a text, a number"),
    ("threads: !!binary aGk=", "threads: got bytes b'hi'; allowed: a text, a number"),
    ("threads: .nan", "threads: got nan; allowed: a finite number"),
    ("training: {epochs: -.inf}", "training.epochs: got -inf; allowed: a finite number"),
    ("threads: 99999999999999999999", "threads: got a whole number of 67 bits; allowed: a number of up to 64 bits"),
    ("runs: {1: {}}", "runs: got the key 1; allowed: names as keys; write it in quotes"),
    ('runs: {"a\\0": {}}', "runs: got the key 'a\\x00'; allowed: names without control characters"),
    ('source: {data: "a\\0b"}', "source.data: got 'a\\x00b'; allowed: a text without control characters"),
    ('source: {data: "\\ud800"}', "line 1, column 19: while parsing a quoted scalar found invalid Unicode character"),
    (b"a: \xff", "not text in UTF-8 (byte 3: invalid start byte); save it as UTF-8 in your editor"),
    (TEXT.encode("utf-16"), "not text in UTF-8 (byte 0: invalid start byte); save it as UTF-8 in your editor"),
    (f"<<<<<<< HEAD\n{TEXT}=======\n>>>>>>> mine\n", "line 1: a merge that git did not finish; keep one of the two"),
    ("a: " + "x" * 2**20, "got a file of 1048579 bytes; allowed: up to 1048576"),
    ("a: " + "x" * 200_000, "a: got a text of 200000 characters; allowed: up to 100000"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), TEXTS, ids=[str(i) for i in range(len(TEXTS))])
def test_a_text_that_is_no_params_file_is_told(text: str | bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as error:
        load_params(tmp_path / "params.yaml")
    assert expected in str(error.value), str(error.value)
    assert len(str(error.value)) < 3000


def test_a_byte_order_mark_and_references_are_read(tmp_path: Path) -> None:
    text = TEXT.replace("options: {rank: 16, alpha: 32}", "options: &small {rank: 16, alpha: 32}", 1)
    text = "\ufeff" + text.replace("options: {rank: 16, alpha: 32}", "options: *small")
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    assert read_yaml(tmp_path / "params.yaml") == DEFAULT
    assert load_params(tmp_path / "params.yaml").runs["raw"].options == {"rank": 16, "alpha": 32}


def of(name: str, path: str, value: Any) -> Callable[[dict[str, Any]], object]:
    """Put a value at a dotted path into one of the good files."""

    def edit(params: dict[str, Any]) -> None:
        params.clear()
        params.update(copy.deepcopy(MADE[name]))
        put(params, tuple(int(key) if key.isdigit() else key for key in path.split(".")), value)

    return edit


ABSURD: list[tuple[str, str, Any, str]] = [
    ("default", "task.kind", ["knowledge"], "task.kind: got ['knowledge']; allowed: a valid string"),
    ("default", "semantics.representation", ["hidden"], "semantics.representation: got ['hidden']; allowed: a valid"),
    ("default", "semantics.representation", 3, "semantics.representation: got 3; allowed: a valid string"),
    ("default", "runs.lora.method", ["lora"], "runs.lora.method: got ['lora']; allowed: a valid"),
    ("default", "runs.lora.selection", ["clean"], "runs.lora.selection: got ['clean']; allowed: a valid"),
    ("default", "selections.fish.strategy", {"fish": 1}, "selections.fish.strategy: got {'fish': 1}; allowed: a valid"),
    ("default", "selections.clean.filter", ["clean"], "selections.clean.filter: got ['clean']; allowed: a valid"),
    ("default", "mixtures.soup.strategy", 5, "mixtures.soup.strategy: got 5; allowed: a valid string"),
    ("default", "mixtures.soup.from", [["lora"], "full"], "mixtures.soup.from.0: got ['lora']; allowed: a valid"),
    ("default", "filters.near.strategy", "clean", "filters.near.strategy: got 'clean'; allowed: a valid list"),
    ("default", "filters.near.strategy", [7], "filters.near.strategy.0: got 7; allowed: a valid string"),
    ("default", "evaluate.metrics", [["known"]], "evaluate.metrics.0: got ['known']; allowed: a valid string"),
    ("default", "evaluate.metrics", ["known", "known"], "evaluate.metrics: got ['known', 'known']; allowed: each once"),
    ("default", "tracking.experiment", " \t", "tracking.experiment: got ' \\t'; allowed: a text that says something"),
    ("default", "tracking.experiment", "a\nb", "tracking.experiment: got 'a\\nb'; allowed: one line, without blanks"),
    ("default", "source.data", "/", "source.data: got '/'; allowed: a file or folder of its own"),
    ("default", "source.data", ".", "source.data: got '.'; allowed: a file or folder of its own"),
    ("default", "base.path", "..", "base.path: got '..'; allowed: a file or folder of its own"),
    ("default", "source.data", "data", "source.data: got 'data'; allowed: a file or folder of its own"),
    ("default", "source.data", "x/" * 2100, "allowed: a path of up to 4095 bytes, each name in it of up to 255"),
    ("default", "source.data", "x" * 256, "allowed: a path of up to 4095 bytes, each name in it of up to 255"),
    ("default", "source.data", "é" * 128, "allowed: a path of up to 4095 bytes, each name in it of up to 255"),
    ("default", "runs", {"x" * 101: DEFAULT["runs"]["lora"]}, "allowed: a name of letters, digits, _ and -"),
    ("default", "prepare.seed", 2**32, "prepare.seed: got 4294967296; allowed: less than 2147483648"),
    ("default", "prepare.seed", -1, "prepare.seed: got -1; allowed: greater than or equal to 0"),
    ("default", "training.learning_rate", 5e-324, "training.learning_rate: got 5e-324; allowed: between 1e-12 and"),
    ("default", "training.epochs", 1e300, "training.epochs: got 1e+300; allowed: "),
    ("default", "training.batch_size", 2**40, "training.batch_size: got 1099511627776; allowed: less than 2147483648"),
    ("default", "runs.full.training", {"a.b": 1}, "runs.full.training.a.b: got an unknown key"),
    ("default", "base.build.epochs", 1e300, "base.build.epochs: got 1e+300; allowed: less than or equal to 10000"),
    ("default", "runs.lora.options.alpha", 1e300, "runs.lora.options.alpha: got 1e+300; allowed: less than or"),
    ("prompts", "source.files.train", 1, "source.files.train: got 1; allowed: a valid string, or a valid list"),
    ("prompts", "source.files.train", [], "source.files.train: got []; allowed: "),
    ("prompts", "source.files.train", ["a.csv", "a.csv"], "allowed: a valid string, or each once"),
    ("prompts", "source.files.train", "../a.csv", "allowed: a file's name below `source.data`"),
    ("prompts", "source.files.train", "/a.csv", "allowed: a file's name below `source.data`"),
    ("prompts", "source.files.train", "*.csv", "allowed: the name of one file; several are a list of names"),
    ("prompts", "source.columns.id", "  ", "source.columns.id: got '  '; allowed: a text that says something"),
    ("prompts", "source.columns.target", "\u200b", "source.columns.target: got '\\u200b'; allowed: a text that says"),
    ("prompts", "source.columns.target", "a}", "source.columns.target: got 'a}' (Single '}' encountered"),
    ("prompts", "source.columns.prompt", "{a:>9}", "source.columns.prompt: got '{a:>9}' ({a} with a format; allowed"),
    ("prompts", "source.columns.prompt", "{ }", "source.columns.prompt: got '{ }'; allowed: a template that names"),
    ("labels", "task.labels", ["good", " "], "task.labels.1: got ' '; allowed: "),
    ("hub", "hub.smol.repo", "acme/*", "hub.smol.repo: got 'acme/*'; allowed: owner/name as the hub has it, or a"),
    ("hub", "hub.smol.repo", "a/b/c", "hub.smol.repo: got 'a/b/c'; allowed: owner/name as the hub has it, or a local"),
    ("hub", "hub.mine.repo", "/", "hub.mine.repo: got '/'; allowed: the folder of a model or a data set alone"),
    ("hub", "hub.sst2.splits", ["../train"], "hub.sst2.splits.0: got '../train'; allowed: "),
]  # fmt: skip


@pytest.mark.parametrize(("name", "path", "value", "expected"), ABSURD, ids=[str(i) for i in range(len(ABSURD))])
def test_nothing_absurd_is_called_good(
    name: str, path: str, value: Any, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    lines = message(tmp_path, of(name, path, value))
    assert any(expected in line for line in lines), lines


def test_a_secret_is_refused_and_not_shown(tmp_path: Path) -> None:
    """DVC would write it into dvc.lock, and MLflow keeps every number and word of the file."""
    path = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text()
    path.write_text(text.replace("data: data/raw", "data: https://ann:s3cret@host/rows?token=abcdef", 1))
    with pytest.raises(UserError) as caught:
        load_params(path)
    assert "source.data: got 'https://***@host/rows?token=***'; allowed: no password or token" in str(caught.value)
