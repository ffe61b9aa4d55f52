"""What a person is told when their input is wrong: every fault at once, with where, got and allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

LONG = 400  # characters of what a person wrote that a message repeats


class UserError(ValueError):
    """A fault in what the user gave. The command line prints it without a traceback."""


class TransientError(UserError):
    """A fault that may be gone on the next try, e.g. of the network."""


@dataclass(frozen=True)
class Problem:
    """One fault of a settings file.

    Args:
        where: the key, dotted from the top of the file, e.g. `runs.lora.options.rank`.
        got: what stands there.
        allowed: what may stand there.
        nearest: the known name closest to what was written, or "".
    """

    where: str
    got: str
    allowed: str
    nearest: str = ""

    def __str__(self) -> str:
        """Give the fault as one line."""
        hint = f"; did you mean {self.nearest!r}?" if self.nearest else ""
        return f"{shorten(self.where)}: got {shorten(self.got)}; allowed: {self.allowed}{hint}"


def shorten(text: str) -> str:
    """Shorten what nobody would read to its end."""
    return text if len(text) <= LONG else f"{text[:LONG]}… ({len(text)} characters)"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name most like `name`, or "" where none is similar."""
    matches = difflib.get_close_matches(str(name)[:LONG], list(known), n=1, cutoff=0.5)
    return matches[0] if matches else ""


def unknown(what: str, name: str, known: Iterable[str]) -> UserError:
    """Make the error for a name that is in no list: what is known, and the nearest."""
    known = sorted(known)
    hint = nearest(name, known)
    return UserError(
        f"no {what} is called {name!r}; known: {', '.join(known)}" + (f"; did you mean {hint!r}?" if hint else "")
    )


def raise_gathered(file: str, problems: list[Problem]) -> None:
    """Raise one error that names every problem of a file; return quietly when there is none."""
    if problems:
        count = f"{len(problems)} problem" + ("s" if len(problems) > 1 else "")
        raise UserError("\n".join([f"{file}: {count}", *(f"  {problem}" for problem in problems)]))
