"""What a raw params mapping says, whatever keys are missing in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def family(raw: Mapping[str, Any], key: str) -> dict[str, dict[str, Any]]:
    """Return the members of a family."""
    members: dict[str, dict[str, Any]] = raw.get(key, {})
    return members


def task_kind(raw: Mapping[str, Any]) -> Any:
    """Return the kind of the task."""
    return raw.get("task", {}).get("kind")


def is_quantized(raw: Mapping[str, Any]) -> bool:
    """Tell whether the base's weights are packed, so that they have no entries to choose or train."""
    return bool(raw.get("compute", {}).get("quantize", "none") != "none")


def has_validation(raw: Mapping[str, Any]) -> bool:
    """Tell whether the source gives validation rows."""
    source = raw.get("source", {})
    if "files" in source:
        of_file = source["files"].get("validation") is not None
        return of_file or source.get("held_out", {}).get("validation", 1) != 0
    return bool(source.get("templates", {}).get("validation", 1) != 0)


def has_replay(raw: Mapping[str, Any]) -> bool:
    """Tell whether there are known rows that may be replayed: in a file of their own, or a share of those known."""
    if raw.get("source", {}).get("files", {}).get("replay") is not None:
        return True
    return bool(raw.get("prepare", {}).get("replay", {}).get("known", 0)) and has_known(raw)


def has_replay_text(raw: Mapping[str, Any]) -> bool:
    """Tell whether there are general texts that may be replayed: a file of their own, or a share of those there are."""
    source = raw.get("source", {})
    own = source.get("format") == "files" and source.get("replay_text") not in (None, source.get("text"))
    return own or bool(raw.get("prepare", {}).get("replay", {}).get("text", 0))


def has_known(raw: Mapping[str, Any]) -> bool:
    """Tell whether the source gives rows that the base knows."""
    source = raw.get("source", {})
    if source.get("format") != "files":
        return True
    of_cases = source.get("columns", {}).get("locality_prompt") is not None
    return of_cases or source.get("files", {"known": "?"}).get("known") is not None
