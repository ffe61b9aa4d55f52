"""What `make new` prints: how the columns look and what they are taken for, and the command that settles a doubt."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from cli.proposing.columns import Column
from cli.proposing.guess import Guess
from cli.proposing.overrides import Overrides

BY_HAND = (
    "say which columns are what: PROMPT=column TARGET=column; or MESSAGES=column of chats; or LABEL=column "
    "TEXT=column, of pairs PAIR=column too. Several columns in one are a template: PROMPT='{title}: {question} '. Or "
    "write the mapping by hand: copy presets/pararel.yaml (prompt and target) or presets/minilm.yaml (labels) and "
    "change `source.columns`; docs/guide/own-data.md explains it"
)
ROLES = {"prompt": "PROMPT", "target": "TARGET", "messages": "MESSAGES", "label": "LABEL", "text": "TEXT",
         "text_pair": "PAIR"}  # fmt: skip


def show_table(columns: Sequence[Column], guess: Guess) -> None:
    """Print how the columns look and what they are taken for."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"{guess.task}: what each column is taken for", title_justify="left")
    for head in ("column", "kind", "for example", "different", "taken for"):
        table.add_column(head, justify="right" if head == "different" else "left")
    for column in columns:
        taken = guess.taken.get(column.name) or (f"left out: {column.unusable}" if column.unusable else "–")
        table.add_row(escape(column.name), column.kind, escape(column.example), f"{column.distinct:,}", escape(taken))
    Console().print(table)


def nothing_fits(shown: str, columns: Sequence[Column]) -> str:
    """Say that no task fits, how the columns look, and what to do."""
    lines = [f"  {c.name}: {c.kind}, e.g. {c.example}" + f" ({c.unusable})" * bool(c.unusable) for c in columns]
    return "\n".join([f"DATA: {shown}: no task fits its columns", *lines, BY_HAND])


def describe_doubts(shown: str, doubts: Sequence[str], too_many: str, guess: Guess, overrides: Overrides) -> str:
    """Say why no preset is written, and which variables settle it.

    Args:
        shown: the data.
        doubts: what is not sure of the mapping.
        too_many: why too many rows would be rejected, or "".
        guess: the proposal.
        overrides: what the user says of the columns.
    """
    lines = [f"DATA: {shown}: no preset is written", *(f"  not sure: {doubt}" for doubt in doubts)]
    lines += [f"  {too_many}"] if too_many else []
    if doubts:
        roles = {ROLES[key]: str(guess.columns[key]) for key in ROLES if guess.columns.get(key)}
        if "label" in guess.columns and overrides.task is None:
            roles["TASK"] = guess.task
        if overrides.several is None and any("SEVERAL" in doubt for doubt in doubts):
            roles["SEVERAL"] = "0"
        given = " ".join(f"{name}={quote_for_make(value)}" for name, value in roles.items())
        lines += [f"say what is right; as proposed it is: {given}", "or take the proposal as it is: SURE=1"]
    return "\n".join(lines)


def quote_for_make(value: str) -> str:
    """Quote a value for a variable of make on a command line."""
    return shlex.quote(value.replace("$", "$$"))
