"""The page's sections, in their order. A new one is a module, its template beside it, and a line here."""

from __future__ import annotations

from knowtune.evaluation.report.section import Section
from knowtune.evaluation.report.sections import (
    answer,
    cost,
    curves,
    facts,
    filters,
    frontier,
    leaderboard,
    lineage,
    pushed,
    reproduce,
    selections,
)

SECTIONS: tuple[Section, ...] = (
    answer.SECTION,
    frontier.SECTION,
    leaderboard.SECTION,
    facts.SECTION,
    curves.SECTION,
    pushed.SECTION,
    filters.SECTION,
    selections.SECTION,
    cost.SECTION,
    lineage.SECTION,
    reproduce.SECTION,
)
