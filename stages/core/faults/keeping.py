"""What keeps the base's knowledge must have something to read: known rows, general texts, sequences that it wrote."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from knowtune.common.errors import Problem
from knowtune.registry import member_class
from knowtune.tasks import TASKS
from stages.core.faults.raw import family, has_known, has_replay, has_replay_text, task_kind

WAYS = {  # source -> what gives it something
    "known": "prepare.replay.known, or source.files.replay",
    "text": "prepare.replay.text, or source.replay_text",
    "self": "rehearse",
}


def check_keeping(raw: dict[str, Any]) -> Iterator[Problem]:
    """Check every run's `preserve`, every selection's `protect`, and what the base writes itself."""
    for name, section in family(raw, "runs").items():
        preserve = section.get("preserve") or {}
        for part, key, default in (("replay", "from", "known"), ("distill", "on", "self"), ("anchor", "from", "self")):
            given = preserve.get(part)
            if given is None or (part == "anchor" and given.get("form", "l2") == "l2"):
                continue
            named = given.get(key, default)
            labelled = part == "anchor" or (part == "replay" and given.get("weight", 1) > 0)
            for source in named if isinstance(named, list) else [named]:
                yield from _source(raw, f"runs.{name}.preserve.{part}.{key}", source, labelled=labelled)
        yield from _comparison(raw, f"runs.{name}.preserve.distill", preserve.get("distill") or {})
    for name, section in family(raw, "selections").items():
        protect = section.get("options", {}).get("protect")
        named = protect.get("from") if isinstance(protect, dict) else None
        for source in [named] if isinstance(named, str) else named or []:
            yield from _source(raw, f"selections.{name}.options.protect.from", source, labelled=True)
    yield from _rehearsal(raw)
    yield from _shares(raw)


def _source(raw: dict[str, Any], where: str, source: str, *, labelled: bool) -> Iterator[Problem]:
    """Check that a source has something, and that the task has such a source.

    Args:
        raw: a params mapping.
        where: the key that names the source.
        source: its name.
        labelled: whether a loss is taken on it, for which a model with a head needs labels.
    """
    kind, fitting = task_kind(raw), ["known", "text", "self"]
    if not _writes(raw):
        fitting = ["known"] if labelled else ["known", "text"]
        if source in ("self", "prompts"):
            got = f"{source!r}, which only a model that writes has"
            yield Problem(where, got, f"{' or '.join(fitting)}, where task.kind is {kind!r}")
            return
        if source == "text" and labelled:
            yield Problem(where, f"'text', which has no labels for a {kind}", "known")
            return
    there = {"known": has_replay(raw), "text": has_replay_text(raw), "self": raw.get("rehearse") is not None}
    if not there.get(source, True):
        others = [name for name in fitting if there[name]]
        allowed = f"{' or '.join(others)}; or give it something" if others else "a source that has something"
        yield Problem(where, f"{source!r}, which is empty", f"{allowed}: {WAYS[source]}")


def _comparison(raw: dict[str, Any], where: str, distill: dict[str, Any]) -> Iterator[Problem]:
    """Check that the task's model gives what is compared: tokens, or the states and outputs of a head."""
    if distill.get("cache", "none") == "top_k" and not _writes(raw):
        got = f"'top_k', the likeliest tokens, where task.kind is {task_kind(raw)!r}"
        yield Problem(f"{where}.cache", got, "none")
    if distill.get("match") == "states" and _writes(raw):
        yield Problem(f"{where}.match", "'states', of a model without a head", "logits, or null")
    yield from _softened(raw, where, distill)


def _softened(raw: dict[str, Any], where: str, distill: dict[str, Any]) -> Iterator[Problem]:
    """Check that a temperature or a direction finds a distribution: neither states nor scores are one."""
    kind = task_kind(raw)
    compared: dict[str | None, str] = {None: "states are compared by a cosine"}
    if kind == "regression":
        compared["logits"] = "scores are compared by their difference"
    if _writes(raw) or distill.get("match") not in compared:
        return
    for key in ("temperature", "direction"):
        if key in distill:
            allowed = f"no {key}" + ("" if kind == "regression" else ", or match: logits")
            yield Problem(f"{where}.{key}", f"{distill[key]!r}, where {compared[distill.get('match')]}", allowed)


def _rehearsal(raw: dict[str, Any]) -> Iterator[Problem]:
    """Check that the base can write, after a prompt too where that is wanted, and so much."""
    rehearsal = raw.get("rehearse")
    if rehearsal is None:
        return
    if not _writes(raw):
        yield Problem(
            "rehearse", "sequences of a model that writes none", f"null, where task.kind is {task_kind(raw)!r}"
        )
    elif rehearsal.get("prompt") == "few_shot" and rehearsal.get("shots", 4) and not has_replay(raw):
        allowed = f"start, or rows for the prompts: {WAYS['known']}"
        yield Problem("rehearse.prompt", "'few_shot', and no row may be replayed", allowed)
    longest, context = rehearsal.get("max_tokens"), raw.get("base", {}).get("build", {}).get("context")
    if longest is not None and context is not None and longest > context:  # a folder's is known when it is admitted
        yield Problem("rehearse.max_tokens", repr(longest), f"up to {context}, the context of base.build")


def _shares(raw: dict[str, Any]) -> Iterator[Problem]:
    """Check that there is something to take shares of, and that files for replay can be read."""
    share, source = raw.get("prepare", {}).get("replay", {}).get("known", 0), raw.get("source", {})
    if share and not has_known(raw):
        yield Problem(
            "prepare.replay.known", repr(share), "0, for `source` gives no known rows; see source.files.known"
        )
    if source.get("format") == "embedded" and source.get("replay_text") not in (None, source.get("text")):
        allowed = "that of source.text, in which the base's own texts are marked"
        yield Problem("source.replay_text", repr(source["replay_text"]), allowed)


def _writes(raw: dict[str, Any]) -> bool:
    """Tell whether the task's model writes text."""
    kind = task_kind(raw)
    return kind not in TASKS or bool(member_class(TASKS, "task", kind).writes)
