"""What the other columns say about a row of knowledge: its id, its fact, relation, subject and template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cli.proposing.columns import PLAIN, Column, key_of
from cli.proposing.names import FACTS, RELATIONS, SUBJECTS, TEMPLATES, UNIQUE, find_column

AGREE = 0.95  # share of a fact's values for which all rows have one target


def describe(
    rest: Mapping[str, Column], prompts: Sequence[Any], targets: Sequence[Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Propose the columns that describe a row.

    Args:
        rest: the columns that are not prompt, target or messages.
        prompts: the cells of the prompt; empty where there is no such column.
        targets: the cells of the target; empty the same.

    Returns:
        id, fact, relation, subject and template as in params.yaml, and what each column is taken for.
    """
    plain = {name: column for name, column in rest.items() if column.kind in PLAIN}
    relation, template = find_column(plain, RELATIONS), find_column(plain, TEMPLATES)
    subject = find_column(plain, SUBJECTS) or _in_prompt(plain, prompts)
    given = find_column(plain, FACTS)
    ways = [[given] if given else [], [relation, subject] if relation and subject else [], [subject] if subject else []]
    fact = next(([c.name for c in way] for way in ways if way and _repeats(way, targets)), [])
    row_id = unique({name: column for name, column in plain.items() if name not in fact})
    mapping: dict[str, Any] = {
        "id": row_id,
        "fact": fact[0] if len(fact) == 1 else fact or None,
        "relation": relation.name if relation else None,
        "subject": subject.name if subject else None,
        "template": template.name if template else None,
    }
    taken: dict[str, str] = {}
    for role in ("id", "relation", "subject", "template"):
        if mapping[role]:
            taken[mapping[role]] = role
    for name in fact:
        taken[name] = f"{taken[name]}, fact" if name in taken else "fact"
    return mapping, taken


def unique(columns: Mapping[str, Column]) -> str | None:
    """Find an id: a column called so whose values are all there and all different."""
    fit = {n: c for n, c in columns.items() if c.kind in ("text", "whole number") and c.distinct == len(c.cells)}
    column = find_column(fit, UNIQUE)
    return column.name if column else None


def _in_prompt(columns: Mapping[str, Column], prompts: Sequence[Any]) -> Column | None:
    """Find a column of names that nearly every prompt contains."""
    for column in columns.values():
        if column.kind == "text" and prompts and column.distinct > 1:
            inside = [bool(key_of(c)) and key_of(c) in key_of(p) for c, p in zip(column.cells, prompts, strict=True)]
            if sum(inside) >= 0.9 * len(inside):
                return column
    return None


def _repeats(way: Sequence[Column], targets: Sequence[Any]) -> bool:
    """Tell whether values come back in several rows, and with the same target each time."""
    if not targets or any(len(column.filled) < len(column.cells) for column in way):
        return False
    by_fact: dict[str, set[str]] = {}
    for *cells, target in zip(*(column.cells for column in way), targets, strict=True):
        by_fact.setdefault(key_of([key_of(cell) for cell in cells]), set()).add(key_of(target))
    agreeing = sum(len(values) == 1 for values in by_fact.values())
    return len(by_fact) * 1.25 <= len(targets) and len(by_fact) > 1 and agreeing >= AGREE * len(by_fact)
