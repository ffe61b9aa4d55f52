"""Which texts quote a fact that is measured: nothing may be replayed that does, nor rehearsed.

Texts are compared word by word, in their normal form. A text quotes a row that names a subject where the subject and
one of the row's right answers both stand in it; a row without a subject where its prompt stands in it, followed by one.
Of a row that a template wrote, what the template wrote does not count, and the last of what remains stands for the
subject. Where text is written without blanks, each character counts as a word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from knowtune.tasks.right_answers import right_answers
from knowtune.text.layout import Layout
from knowtune.text.normalize import normal_form, unspaced

if TYPE_CHECKING:
    import pandas as pd

Words = tuple[str, ...]
AROUND = " .,;:!?\"'"  # what an answer or a name may have around it
WORD = re.compile(rf"{unspaced.pattern}|(?:(?!{unspaced.pattern})\w)+|[^\w\s]")


def words_of(text: str) -> Words:
    """Split a text's normal form into words and signs."""
    return tuple(WORD.findall(normal_form(text)))


def _quoted(subject: str, prompt: str, layout: str, answer: str) -> tuple[Words, Words]:
    """Give what stands in a text that quotes a row: two runs of words, the second one anywhere or none."""
    last = words_of(normal_form(answer).strip(AROUND) or answer)
    markup = Layout.read(layout).markup
    if not subject.strip() and not markup:
        return (*words_of(prompt), *last), ()
    ends = [start for start, _ in markup] + [len(prompt)]
    pieces = [prompt[start:end] for start, end in zip([0, *(stop for _, stop in markup)], ends, strict=True)]
    named = subject if subject.strip() else next((piece for piece in reversed(pieces) if piece.strip()), "")
    return words_of(normal_form(named).strip(AROUND) or named), last


class Quotes:
    """Finds the measured rows that a text quotes."""

    def __init__(self, measured: pd.DataFrame) -> None:
        """Take the rows that measure."""
        self._by_first_word: dict[str, list[tuple[Words, Words, str]]] = {}
        seen = set()
        columns = (measured[name] for name in ("id", "subject", "prompt", "layout"))
        for row_id, subject, prompt, layout, rights in zip(*columns, right_answers(measured), strict=True):
            for right in filter(str.strip, rights):
                first, second = _quoted(subject, prompt, layout, right)
                if first and (first, second) not in seen:
                    seen.add((first, second))
                    self._by_first_word.setdefault(first[0], []).append((first, second, row_id))

    def in_text(self, text: str) -> str | None:
        """Give the id of a measured row that a text quotes, None where there is none."""
        words = words_of(text)
        there: set[str] = set(words)
        for at, word in enumerate(words):
            for first, second, row_id in self._by_first_word.get(word, ()):
                if words[at : at + len(first)] != first or not there.issuperset(second):
                    continue
                if not second or _stands_in(second, words):
                    return row_id
        return None


def _stands_in(part: Words, whole: Sequence[str]) -> bool:
    """Tell whether words stand in a text, one after the other."""
    return any(tuple(whole[at : at + len(part)]) == part for at in range(len(whole) - len(part) + 1))
