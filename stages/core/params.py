"""Read params.yaml: every number a person may turn, checked, all faults of a file in one message. Write YAML, too.

The only module that writes YAML. What it writes comes back equal from DVC's reader and from ours, which are the same.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import SafeRepresenter

from knowtune.common.errors import UserError, raise_gathered
from knowtune.common.files import whole
from stages.core.faults import faults_of
from stages.core.plain import load_plain, quote
from stages.core.schema import Params

PARAMS = Path("params.yaml")
MOST_BYTES = 2**20  # of a params file; it is read at the start of every stage


def read_yaml(path: Path) -> dict[str, Any]:
    """Read YAML 1.2 with DVC's parser (so that 1e-3 is a number, a key given twice an error, and [why?] one for both).

    Raises:
        UserError: no such file, or not a YAML mapping.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file" if not path.exists() else f"{path}: no file")
    try:
        text = path.read_text(encoding="utf-8")
        refuse_unmerged(path, text)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that references share
            value = load_plain(text)
    except UserError:
        raise
    except UnicodeDecodeError as error:
        at = f"byte {error.start}: {error.reason}"
        raise UserError(f"{path}: not text in UTF-8 ({at}); save it as UTF-8 in your editor") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise UserError(f"{path}: not readable as YAML: brackets or lists far too deep in each other") from error
    except Exception as error:  # ruamel lets through whatever int, float, date and its own code raise on odd text
        raise UserError(f"{path}: not readable as YAML: {_reason(error)}") from error
    if not isinstance(value, dict):
        got = "nothing, the file is empty" if value is None else f"{type(value).__name__} {quote(value, 80)}"
        raise UserError(f"{path}: got {got}; allowed: a mapping of sections")
    return value


def refuse_unmerged(path: Path, text: str) -> None:
    """Refuse a file in which git left both sides of a merge.

    Raises:
        UserError: with the line.
    """
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith(("<<<<<<< ", ">>>>>>> ")):
            raise UserError(f"{path}: line {number}: a merge that git did not finish; keep one of the two sides")


def _reason(error: Exception) -> str:
    """Say what the parser says, with line and column, without its advice to programmers."""
    if not isinstance(error, MarkedYAMLError):
        return str(error) or type(error).__name__
    words = " ".join(text for text in (error.context, error.problem) if text)
    hint = "; a text with ? or : may need quotes" if "flow" in words or "plain scalar" in words else ""
    mark = error.problem_mark or error.context_mark
    return f"{words}{hint}" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: {words}{hint}"


def load_params(path: Path, *, deep: bool = False) -> Params:
    """Read and check a params file.

    Args:
        path: the file.
        deep: also check PEFT's own options, which imports PEFT (seconds).

    Raises:
        UserError: names every fault: key, got, allowed, nearest name.
    """
    size = path.stat().st_size if path.is_file() else 0
    if size > MOST_BYTES:
        raise UserError(f"{path}: got a file of {size} bytes; allowed: up to {MOST_BYTES}")
    raw = read_yaml(path)
    raise_gathered(str(path), faults_of(raw, deep=deep))
    return Params.model_validate(raw)


def yaml_text(value: Any, *, one_line: bool = False) -> str:
    """Write a value as YAML that `read_yaml` and DVC read back equal, keys in their order.

    Args:
        value: mappings, lists, texts, numbers, truth values and None.
        one_line: in flow style, without a line break, to stand anywhere in a file.
    """
    # With libyaml, where it is installed: ruamel's own emitter writes texts that libyaml, DVC's parser, cannot read.
    yaml = YAML(typ="safe")
    yaml.Representer = _Represented
    yaml.allow_unicode = True
    yaml.width = 2**31 - 1
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.default_flow_style = one_line
    out = io.StringIO()
    yaml.dump([value] if one_line else value, out)  # in a list, so that signs of flow style are quoted too
    return out.getvalue().strip()[1:-1] if one_line else out.getvalue()


def write_yaml(path: Path, value: Any) -> None:
    """Write a value as a YAML file, whole or not at all."""
    with whole(path) as part:
        part.write_text(yaml_text(value), encoding="utf-8", newline="")


class _Represented(SafeRepresenter):
    """How values are written: no anchors, decimals without an exponent where they fit, line breaks as escapes."""

    def ignore_aliases(self, _: Any) -> bool:
        """Write what comes twice in full."""
        return True


def _text(representer: SafeRepresenter, value: str) -> ScalarNode:
    """Write a text; one with a line break, or a sign that has no picture, with escapes."""
    odd = not all(sign.isprintable() for sign in value)
    return representer.represent_scalar("tag:yaml.org,2002:str", value, style='"' if odd else None)


def _decimal(representer: SafeRepresenter, value: float) -> ScalarNode:
    """Write 5e-05 as 0.00005."""
    short = f"{value:.8f}".rstrip("0")
    if short in ("inf", "-inf", "nan") or float(short) != value:
        return representer.represent_float(value)
    return representer.represent_scalar("tag:yaml.org,2002:float", short + "0" * short.endswith("."))


_Represented.add_representer(str, _text)
_Represented.add_representer(float, _decimal)
