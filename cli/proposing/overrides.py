"""What the user says of the columns: it overrides every guess."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from cli.proposing.columns import Column
from knowtune.common.errors import UserError, nearest
from knowtune.text.cell_paths import LIST
from knowtune.text.templates import is_template, template_columns

KINDS = {"prompt": "prompts", "target": "prompts", "messages": "chats", "label": "labels", "text": "labels",
         "pair": "labels"}  # fmt: skip


@dataclass(frozen=True)
class Overrides:
    """Columns, or templates of columns in braces, for roles; None for what is to be guessed.

    Args:
        prompt: what the model reads.
        target: how it goes on.
        messages: chats.
        text: what is classified.
        pair: the second text.
        label: label or score.
        fact: what several rows have in common.
        task: classification or regression, where a label could be a score.
        several: whether rows of one prompt are right answers of each other.
    """

    prompt: str | None = None
    target: str | None = None
    messages: str | None = None
    text: str | None = None
    pair: str | None = None
    label: str | None = None
    fact: str | None = None
    task: str | None = None
    several: bool | None = None

    @property
    def kind(self) -> str | None:
        """What kind of mapping the roles are of; None where none is given."""
        kinds = {KINDS[name]: name for name, value in self.given().items() if name in KINDS}
        return next(iter(kinds), None)

    def given(self) -> dict[str, Any]:
        """Give the columns that the user names, by role."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}

    def check(self, columns: Sequence[Column], shown: str) -> None:
        """Check that the columns are there and that the roles go together.

        Raises:
            UserError: they are not.
        """
        by_kind: dict[str, str] = {}
        for role, value in self.given().items():
            if role in KINDS:
                by_kind.setdefault(KINDS[role], role)
            if role in KINDS or role == "fact":
                self._check_column(role, str(value), columns, shown)
        if len(by_kind) > 1:
            roles = ", ".join(f"{role.upper()}=" for role in by_kind.values())
            raise UserError(
                f"{roles}: of different kinds of rows; allowed: PROMPT= and TARGET=, or MESSAGES=, or LABEL= with "
                "TEXT= and PAIR="
            )

    def _check_column(self, role: str, value: str, columns: Sequence[Column], shown: str) -> None:
        """Check one column or template."""
        try:
            named = template_columns(value) if is_template(value) else [value]
        except ValueError as error:
            raise UserError(f"{role.upper()}={value}: {error}; allowed: a column, or columns in braces") from None
        known = [column.name for column in columns]
        for name in named:
            plain = name.removesuffix(LIST).split(".")[0]
            if name not in known and plain not in known:
                hint = nearest(name, known)
                raise UserError(
                    f"{role.upper()}={value}: {shown} has no column {name!r}; it has {', '.join(known)}"
                    + (f"; did you mean {hint!r}?" if hint else "")
                )
