"""A pytest plugin that puts our tuners into the tables of PEFT's tests, and takes everything else out.

A table is recognised by identity, so a test follows its table wherever PEFT uses it. Where PEFT's tests branch on the
config class, a tuner that PEFT does not know takes the branch that asks for everything.
"""

import contextlib
import importlib.machinery
import inspect
import os
import re
import sys
import types
from collections import Counter
from functools import partial
from typing import Any

import pytest

from tests.peft_conformance.cases import EVERY_TYPE, LEFT_OUT, TABLES
from tests.peft_conformance.hub import ADAPTERS, MODELS
from tests.peft_conformance.sdist import SUITE
from tests.peft_conformance.tuners import CONTROLS, TUNERS, Tuner

# Pattern found in a test's id -> why nobody could pass it here.
NEEDS_HUB = {
    "test_from_pretrained_cache_dir": "needs the hub: it downloads into an empty cache",
}

NO_CONV1D = "GPT-2 is made of Conv1D layers, which this tuner does not adapt"

# Helper of PEFT's tests -> what stands in for it.
HELPERS = {
    # It turns the offline mode off at a model's first use. Here it stays on: the cache holds the stand-ins.
    "hub_online_once": contextlib.nullcontext,
    # Lists of classes without Conv1D; what a tuner of ours adapts is in its own line.
    "_skip_if_conv1d_not_supported": lambda *_: None,
    "_skip_if_not_conv1d_supported": lambda *_: None,
    # Meant for BEFT alone, it skips Llama and Gemma for every tuner: it asks whether a class is an instance of another.
    "check_beft_config": lambda *_: None,
}


def selected() -> list[Tuner]:
    """The tuners named in the environment, by default all of ours."""
    names = os.environ.get("PEFT_CONFORMANCE_TUNERS", "").split() or list(TUNERS)
    return [{**CONTROLS, **TUNERS}[name] for name in names]


def _short(module: types.ModuleType) -> str:
    return module.__name__.removeprefix(f"{SUITE}.")


def pytest_configure(config: pytest.Config) -> None:
    """Import PEFT's tests, and change the helpers of theirs that need a hub or ask for the config class."""
    # testing_common.py asks whether a model is a pipeline of diffusers; none is here, so an empty class will do.
    stub = types.ModuleType("diffusers")
    stub.__spec__ = importlib.machinery.ModuleSpec("diffusers", None)
    stub.StableDiffusionPipeline = type("StableDiffusionPipeline", (), {})  # type: ignore[attr-defined]
    sys.path.insert(0, str(config.rootpath))
    pytest.register_assert_rewrite(SUITE)
    for tuner in selected():
        assert tuner.config_class  # registers the type, before PEFT's tests look at what is registered
    present = sys.modules.setdefault("diffusers", stub)
    modules = [importlib.import_module(f"{SUITE}.{name}") for name in ("testing_common", *TABLES)]
    if present is stub:
        del sys.modules["diffusers"]
    for module in modules:
        gone = set(TABLES.get(_short(module), ())) - set(re.findall(r"\w+", inspect.getsource(module)))
        if gone:
            raise pytest.UsageError(
                f"PEFT's {_short(module)}.py has no {', '.join(sorted(gone))} any more; see cases.TABLES"
            )
        for name, instead in HELPERS.items():
            if hasattr(module, name):
                setattr(module, name, instead)


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Replace PEFT's rows by ours where a test is parametrised over one of its tables."""
    module = metafunc.module
    tables = TABLES.get(_short(module), {})
    named = {id(getattr(module, name)): rows for name, rows in tables.items() if not name.startswith("test_")}
    inline = tables.get(metafunc.function.__name__)
    marks = metafunc.definition.own_markers
    for position, mark in enumerate(marks):
        if mark.name != "parametrize":
            continue
        rows = named.get(id(mark.args[1])) or (inline if str(mark.args[0]).startswith("config") else None)
        if rows:
            ours = [row for tuner in selected() for row in rows(tuner)]
            marks[position] = pytest.mark.parametrize(mark.args[0], ours).mark


def _is_ours(item: pytest.Item, ours: tuple[type, ...], own: str = "") -> bool:
    if own and re.search(own, item.name):
        return True
    values: list[Any] = list(item.callspec.params.values()) if hasattr(item, "callspec") else []
    values += [value.func for value in values if isinstance(value, partial)]
    return item.name in EVERY_TYPE or any(value in ours or isinstance(value, ours) for value in values)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of our tuners; skip those with a known reason."""
    tuners = selected()
    ours = tuple(tuner.config_class for tuner in tuners)
    own = "|".join(tuner.own for tuner in tuners if tuner.own)
    kept = [item for item in items if _is_ours(item, ours, own)]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept
    for item in items:
        reasons = dict(NEEDS_HUB)
        for tuner in tuners:
            if _is_ours(item, (tuner.config_class,), tuner.own):
                if tuner.layers and "conv1d" not in tuner.layers:
                    reasons.update({"GPT2LMHeadModel": NO_CONV1D, "random-gpt2": NO_CONV1D})
                reasons.update(tuner.skips)
        for pattern, reason in reasons.items():
            if re.search(pattern, item.nodeid):
                item.add_marker(pytest.mark.skip(reason=reason))
                break


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Tell what was skipped and why, what stood in for what, and what was left out."""
    reasons = Counter[str]()
    for report in terminalreporter.stats.get("skipped", []):
        text = report.longrepr[2].removeprefix("Skipped: ")
        text = re.sub(r"<class '[\w.]*\.(\w+)'>", r"\1", text)
        reasons[text] += 1
    write = terminalreporter.write_line
    terminalreporter.section("skipped, by reason")
    for reason, count in reasons.most_common():
        write(f"{count:5}  {reason}")
    terminalreporter.section("stand-ins: local models of the same architecture, tiny, with random weights")
    for name, (class_name, _) in MODELS.items():
        write(f"       {name}: {class_name}")
    for name in ADAPTERS:
        write(f"       {name}: a config only")
    terminalreporter.section("modules of PEFT's suite that are not run")
    for modules, reason in LEFT_OUT.items():
        write(f"       {modules}: {reason}")
