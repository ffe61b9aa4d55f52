"""Keys of params.yaml that had another name before: an old one is refused with the new one, its value still checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from knowtune.common.errors import Problem

TRAINING = {
    "accumulation": "gradient_accumulation_steps",
    "schedule": "lr_scheduler_type",
    "log_steps": "logging_steps",
    "checkpoint_steps": "save_steps",
    "keep_best": "load_best_model_at_end",
}
# Old key, dotted from the top of the file (* is any name) -> its new name, in the same mapping.
# Applied in this order: a key within a renamed section comes after it, by the section's new name.
RENAMED: dict[str, str] = {
    **{f"{section}.{old}": new for section in ("training", "runs.*.training") for old, new in TRAINING.items()},
    "prepare.damage": "label_noise",
    "prepare.max_items": "max_examples",
    "source.wordings": "templates",
    "source.columns.wording": "template",
}


@dataclass(frozen=True)
class Renamed(Problem):
    """A key by its old name; `allowed` is the new one."""

    def __str__(self) -> str:
        """Give the fault as one line."""
        return f"{self.where}: is now {self.allowed}"


def rename_keys(raw: dict[str, Any]) -> tuple[list[Problem], dict[str, Any]]:
    """Give keys by their old names the new ones.

    Args:
        raw: a params mapping as read from YAML; stays as it is.

    Returns:
        A problem for each old name; and the mapping with the new names, so that the values can be checked.
    """
    problems: list[Problem] = []
    for old, new in RENAMED.items():
        *parents, key = old.split(".")
        raw = _renamed_at(raw, parents, key, new, (), problems)
    return problems, raw


def _renamed_at(
    value: Any, parents: Sequence[str], old: str, new: str, above: tuple[str, ...], problems: list[Problem]
) -> Any:
    """Copy a mapping with one key renamed, in the mappings that the parents lead to; all else is the same object."""
    if not isinstance(value, dict):
        return value
    if parents:
        first, *rest = parents
        steps = list(value) if first == "*" else [first] if first in value else []
        inner = {key: _renamed_at(value[key], rest, old, new, (*above, str(key)), problems) for key in steps}
        return {**value, **inner}
    if old not in value:
        return value
    problems.append(Renamed(".".join([*above, old]), "an old name", new))
    return {new if key == old else key: given for key, given in value.items() if key != old or new not in value}
