"""The options of PEFT's own types: their config classes, and what is wrong with options written in params.yaml."""

from __future__ import annotations

import dataclasses
import typing
from typing import TYPE_CHECKING, Any

from knowtune.common.errors import Problem, nearest

if TYPE_CHECKING:
    from peft import PeftConfig
    from pydantic import ValidationError

# Options that PEFT fills from the base itself.
DERIVED = {"runtime_config", "token_dim", "num_transformer_submodules", "num_attention_heads", "num_layers"}


def config_class(peft_type: str) -> type[PeftConfig]:
    """Return PEFT's config class for a type by its lower-case name."""
    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    config: type[PeftConfig] = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(peft_type.upper())]
    return config


def own_options(peft_type: str) -> dict[str, dataclasses.Field[Any]]:
    """Return the options of a PEFT type, by name, less PEFT's bookkeeping."""
    from peft import PeftConfig

    bookkeeping = DERIVED | {field.name for field in dataclasses.fields(PeftConfig)}
    return {f.name: f for f in dataclasses.fields(config_class(peft_type)) if f.init and f.name not in bookkeeping}


def option_problems(peft_type: str, options: dict[str, Any], where: str) -> list[Problem]:
    """Check options against PEFT's own config: names, types, and the config's own rules.

    Args:
        peft_type: lower-case name.
        options: as written in params.yaml.
        where: the key of the options there.
    """
    from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError

    known = own_options(peft_type)
    hints = typing.get_type_hints(config_class(peft_type))
    problems = []
    for name, value in options.items():
        if name not in known:
            allowed = f"the options of PEFT's {peft_type}: {', '.join(sorted(known))}"
            problems.append(Problem(f"{where}.{name}", "an unknown key", allowed, nearest(name, known)))
            continue
        try:
            checker = TypeAdapter(hints[name], config=ConfigDict(arbitrary_types_allowed=True, strict=False))
            checker.validate_python(value)
        except ValidationError as error:
            problems += _faults(f"{where}.{name}", value, hints[name], error) or [
                Problem(f"{where}.{name}", repr(value), str(known[name].type))
            ]
        except PydanticSchemaGenerationError:
            continue  # a type only PEFT understands; its own rules below judge it
    if not problems:
        try:
            config_class(peft_type)(**options, task_type="CAUSAL_LM")
        except (ValueError, TypeError) as error:
            problems.append(Problem(where, repr(options), f"what PEFT's {peft_type} accepts: {error}"))
    return problems


def _faults(where: str, value: Any, hint: Any, error: ValidationError) -> list[Problem]:
    """Say what is wrong inside an option that is a config of its own, by the key there; nothing for another option."""
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    if len(kinds) != 1 or not dataclasses.is_dataclass(kinds[0]) or not isinstance(value, dict):
        return []
    return [
        Problem(
            ".".join([where, *map(str, fault["loc"])]),
            repr(fault["input"]),
            fault["msg"].removeprefix("Value error, ").removeprefix("Input should be ").rstrip("."),
        )
        for fault in error.errors()
    ]
