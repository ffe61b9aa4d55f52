"""Read params.yaml: every number a person may turn, checked, all faults of a file in one message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from knowtune.errors import UserError, raise_gathered
from stages.core.faults import faults_of
from stages.core.schema import Params


def read_yaml(path: Path) -> dict[str, Any]:
    """Read YAML 1.2, as DVC does (so that 1e-3 is a number and a key given twice is an error).

    Raises:
        UserError: no such file, or not a YAML mapping.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        value = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: got {type(value).__name__}; allowed: a mapping of sections")
    return value


def load_params(path: Path, *, deep: bool = False) -> Params:
    """Read and check a params file.

    Args:
        path: the file.
        deep: also check PEFT's own options, which imports PEFT (seconds).

    Raises:
        UserError: names every fault: key, got, allowed, nearest name.
    """
    raw = read_yaml(path)
    raise_gathered(str(path), faults_of(raw, deep=deep))
    return Params.model_validate(raw)
