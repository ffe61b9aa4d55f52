from __future__ import annotations

import enum
import subprocess
import sys

import pytest

from knowtune.methods.peft_enum import add_member

LOAD = """import torch
assert PeftType('FISH') is PeftType.FISH and PeftType.FISH in PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.lora import Linear
assert Linear.lora_variants.fget(None)["kasa_config",].__module__.startswith("knowtune.")
"""
NAMES = "from peft.utils.peft_types import PeftType\nfrom peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING\n"


class Kind(str, enum.Enum):  # noqa: UP042  # as PEFT writes its own
    ONE = "ONE"


ORDERS = [
    "import knowtune, peft",
    "import peft, knowtune",
    "import knowtune\nfrom peft.utils.peft_types import PeftType",
    "import knowtune, importlib.util\nassert importlib.util.find_spec('peft')\nimport peft",
    "import knowtune\nknowtune.FishConfig(strategy='random', budget=0.1)",
    "import knowtune.methods.kasa.tuner.variant",
]
FORKS = """
import gc, os, sys
gc.disable()  # which takes a fifth of the imports
import torch, transformers.modeling_utils  # what PEFT itself imports, and takes seconds
assert not {"peft", "knowtune"} & set(sys.modules)
for code in sys.argv[1:]:
    child = os.fork()
    if not child:
        exec(code, {})
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, flush=True)
"""


def test_registered_in_any_order_of_imports():
    codes = [f"{imports}\n{NAMES}{LOAD}" for imports in ORDERS]
    done = subprocess.run([sys.executable, "-c", FORKS, *codes], capture_output=True, text=True)
    assert done.stdout.split() == ["True"] * len(ORDERS), done.stderr


def test_importing_knowtune_imports_neither_peft_nor_torch():
    code = "import sys, knowtune; sys.exit(any(name in sys.modules for name in ('peft', 'torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_new_member_is_like_any_other():
    import copy
    import pickle

    new = add_member(Kind, "TWO")
    assert add_member(Kind, "TWO") is new and Kind("TWO") is Kind["TWO"] is Kind.TWO is new
    assert list(Kind) == ["ONE", "TWO"] and "TWO" in list(Kind) and isinstance(new, Kind) and new == "TWO"
    assert copy.deepcopy(new) is new and pickle.loads(pickle.dumps(new)) is new
    assert {Kind.ONE: 1, new: 2}[Kind.TWO] == 2


def test_registering_twice_does_no_harm():
    from knowtune.methods.peft_types import register

    register()
    register()


def test_an_unknown_name_is_an_attribute_error():
    import knowtune

    with pytest.raises(AttributeError, match="nothing"):
        _ = knowtune.nothing
