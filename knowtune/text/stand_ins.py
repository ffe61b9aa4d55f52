"""Private characters that stand for control tokens written in a chat, so that a template cannot take them as meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from knowtune.text.layout import Range
from knowtune.text.messages import UnusableError
from knowtune.text.special_tokens import control_pattern, control_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBE = "\U0010fffd"  # a character for private use: stands for a content, to see where the template puts it
FIRST = 0x10F000  # of the private characters that stand for control tokens


class StandIns:
    """Hides the control tokens of a tokenizer, and puts them back."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Take the base's tokenizer."""
        self.control = control_pattern(tokenizer)
        self.names = sorted(set(control_tokens(tokenizer).values()))

    def hide(self, value: Any) -> Any:
        """Let private characters stand for control tokens in all texts of a value.

        Raises:
            UnusableError: a text has such a character itself.
        """
        if isinstance(value, str):
            if not value.isascii() and any(ord(letter) >= FIRST for letter in value):
                raise UnusableError("messages: a character for private use, beyond U+10F000")
            return self.control.sub(lambda match: chr(FIRST + self.names.index(match[0])), value)
        if isinstance(value, dict):
            return {name: inner if name in ("role", "type") else self.hide(inner) for name, inner in value.items()}
        return [self.hide(inner) for inner in value] if isinstance(value, list) else value

    def plain(self, text: str) -> str:
        """Put control tokens back."""
        return "".join(self._name(letter) for letter in text) if not text.isascii() else text

    def restore(self, text: str) -> tuple[str, list[Range], list[int]]:
        """Put control tokens back, and tell what of the text is the template's.

        Returns:
            The text; the ranges of it that are the template's; and for each position before, the position now.
        """
        positions, written, end = [0], [], 0
        for letter in text:
            name = self._name(letter)
            if name is not letter and name != letter:
                written.append((end, end + len(name)))
            end += len(name)
            positions.append(end)
        return self.plain(text), list(_between(written, end)), positions

    def _name(self, letter: str) -> str:
        """Give what a character stands for."""
        return self.names[ord(letter) - FIRST] if FIRST <= ord(letter) < ord(PROBE) else letter


def _between(ranges: Sequence[Range], end: int) -> Iterator[Range]:
    """Give the ranges between given ones, up to an end."""
    last = 0
    for start, stop in [*ranges, (end, end)]:
        if last < start:
            yield last, start
        last = stop
