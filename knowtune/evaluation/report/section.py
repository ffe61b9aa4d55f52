"""What a section of the page is: a heading, a template, and what the template is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from knowtune.evaluation.report.contents import Report


@dataclass(frozen=True)
class Section:
    """A part of the page, in a fold of its own.

    Args:
        name: its anchor on the page.
        label: what leads to it at the top of the page, a word.
        title: its heading.
        template: its file, beside the module that makes it. The module names it, so that the stage depends on it.
        show: what the template finds as `it`; None where there is nothing to show, and the page has no such section.
        unfolded: whether it is open at first.
    """

    name: str
    label: str
    title: str
    template: str
    show: Callable[[Report], Mapping[str, Any] | None]
    unfolded: bool = False
