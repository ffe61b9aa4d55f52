r"""A row's layout: what a chat template or a prompt template adds to prompt and target, as one text column.

"" is a plain row: `<s>` + prompt + target + `</s>`, and control tokens written in it are text as any other. Else JSON:

    {"answer": [[0, 3]], "ending": "<|im_end|>\n", "markup": [[0, 58]], "start": false, "turns": [[10, 25]]}

ending  what follows the target and is learned in place of the tokenizer's end token; written by the template
markup  ranges of characters of the prompt that the template wrote: there, control tokens are meant as such
answer  the same of the target (a template may write control tokens into a call of a tool)
turns   ranges of the prompt that are learned too: the assistant's earlier turns
start   false where the template writes the start token itself, or means none

The ending is the template's as a whole. Ranges are [start, end).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

Range = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """See the module."""

    ending: str = ""
    markup: tuple[Range, ...] = ()
    answer: tuple[Range, ...] = ()
    turns: tuple[Range, ...] = ()
    start: bool = True

    @classmethod
    def read(cls, text: str) -> Layout:
        """Read the column's text."""
        return _read(text) if text else PLAIN

    def to_text(self) -> str:
        """Write the column's text: "" where nothing is added."""
        if self == PLAIN:
            return ""
        added = {name: value for name, value in asdict(self).items() if value != getattr(PLAIN, name)}
        return json.dumps(added, sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    def of_prompt(self) -> Layout:
        """Give the layout of the prompt alone."""
        return Layout(markup=self.markup, start=self.start)

    def control_ranges(self, prompt: int, target: int) -> tuple[Range, ...]:
        """Give the ranges of prompt + target + ending in which control tokens are meant.

        Args:
            prompt: characters of the prompt; blanks at its end may have been left out.
            target: characters of the target.
        """
        end = prompt + target
        ranges = [(start, min(stop, prompt)) for start, stop in self.markup if start < prompt]
        ranges += [(prompt + start, min(prompt + stop, end)) for start, stop in self.answer if start < target]
        return (*ranges, *([(end, end + len(self.ending))] if self.ending else []))


PLAIN = Layout()


@lru_cache(maxsize=1024)
def _read(text: str) -> Layout:
    given: dict[str, Any] = json.loads(text)
    ranges: dict[str, Any] = {
        name: tuple((a, b) for a, b in given.pop(name, [])) for name in ("markup", "answer", "turns")
    }
    return Layout(**given, **ranges)
