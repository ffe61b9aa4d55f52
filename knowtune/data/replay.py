"""Which known rows and general texts may be replayed, and that nothing of them is measured, trained or tested.

Rows are split by fact: rows of one fact, or of one prompt in its normal form, stay together. A fact of which a row is
trained or tested is never replayed. The draw is over names, so the order of a file does not matter, and a larger share
contains a smaller one. What a user gives for replay is not drawn from; where it meets what is measured, trained or
tested, it is refused, for the user knows best which of the two it is for. A text that quotes a measured fact
(`knowtune.data.quotes`), among other things, is rejected.

Where no column names the facts, each row is a fact by itself, and two paraphrases of one would fall apart. So a row is
then read as a text too, its prompt and target: what quotes a measured fact is left out where it was drawn, and refused
in a file of the user's own. Where facts have names, these decide: two facts may have a subject and an answer in common.
Where no column names the subjects either, only the answer tells that two rows may be paraphrases: rows of one answer
are drawn together, and of a file of the user's own it is counted how many have a measured answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from knowtune.common.errors import UserError
from knowtune.common.statistics import share_of
from knowtune.data.draw import among, draw, where
from knowtune.data.quotes import AROUND
from knowtune.data.same_prompt import prompt_keys
from knowtune.tasks.right_answers import right_answers
from knowtune.text.normalize import normal_form

KNOWN_DRAW, TEXT_DRAW = 3, 4  # added to the seed, so that no two draws are the same
NUM_NAMED = 3  # rows in a message


@dataclass(frozen=True)
class Spare:
    """How much may be replayed.

    Args:
        known: share of the known facts.
        text: share of the general texts.
        max_known: rows; None for all.
        max_texts: texts; None for all.
    """

    known: float = 0.0
    text: float = 0.0
    max_known: int | None = None
    max_texts: int | None = None


def split_known(
    known: pd.DataFrame, others: Mapping[str, pd.DataFrame], share: float, seed: int, *, by_answer: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split known rows by fact into those that measure and those that may be replayed.

    Args:
        known: all of them.
        others: role -> rows that are trained or tested: their facts and prompts are not replayed.
        share: of the facts.
        seed: of the draw.
        by_answer: keep rows that have a right answer in common together, too.
    """
    if not share or known.empty:
        return known, known.head(0)
    groups = _groups(known, by_answer=by_answer)
    names = known["fact"].groupby(groups).transform("min")
    taken = pd.Series(False, index=known.index)
    for rows in others.values():
        taken |= _meets(known, rows)
    free = names[~names.isin(names[taken])].drop_duplicates()
    chosen = draw(free, _count(share, names), seed + KNOWN_DRAW)
    spare = among(names, chosen)
    return where(known, ~spare), where(known, spare)


def split_texts(texts: pd.DataFrame, share: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split general texts (id, text) into those that measure and those that may be replayed; equal ones together."""
    if not share or texts.empty:
        return texts, texts.head(0)
    names = texts["text"].map(normal_form)
    spare = among(names, draw(names.drop_duplicates(), _count(share, names), seed + TEXT_DRAW))
    return where(texts, ~spare), where(texts, spare)


def refuse_overlap(replay: pd.DataFrame, others: Mapping[str, pd.DataFrame]) -> None:
    """Refuse rows for replay of a fact, a prompt or an id that is measured, trained or tested.

    Args:
        replay: rows given for replay.
        others: role -> rows that are not.

    Raises:
        UserError: names rows of both.
    """
    if replay.empty:
        return
    lines = []
    for role, rows in others.items():
        both = replay[_meets(replay, rows)]
        for row_id in both["id"].head(NUM_NAMED):
            row = both[both["id"] == row_id]
            (other,) = rows[_meets(rows, row)]["id"].head(1)
            lines.append(f"  replay row {row_id!r} is row {other!r} of {role}, by its fact, prompt or id")
        if len(both) > NUM_NAMED:
            lines.append(f"  and {len(both) - NUM_NAMED} more replay rows are of {role}")
    if lines:
        raise UserError(
            "prepare: rows of source.files.replay are measured, trained or tested too, which would say of what is "
            "learned again that nothing was forgotten; remove them from one of the two\n" + "\n".join(lines)
        )


def refuse_same_texts(replay: pd.DataFrame, measured: pd.DataFrame) -> None:
    """Refuse texts for replay that are measured too, whatever blanks, case and quotes they have.

    Raises:
        UserError: names some of them.
    """
    if replay.empty or measured.empty:
        return
    own, other = replay["text"].map(normal_form), measured["text"].map(normal_form)
    both = among(own, other)
    if both.any():
        named = [
            f"  replay text {row_id!r} is general text {measured['id'][other == text].iloc[0]!r}"
            for row_id, text in zip(replay["id"][both].head(NUM_NAMED), own[both], strict=False)
        ]
        raise UserError(
            f"prepare: {int(both.sum())} texts of source.replay_text are measured too (source.text); remove them from "
            "one of the two\n" + "\n".join(named)
        )


def lacks_subjects(rows: pd.DataFrame) -> bool:
    """Tell whether some rows have no subject, so that only the answer tells that two may be paraphrases."""
    return bool((rows["subject"].str.strip() == "").any())


def _count(share: float, names: pd.Series[str]) -> int:
    """Count how many of different names a share is; one at least stays to measure."""
    different = names.nunique()
    return min(share_of(share, different), different - 1)


def _meets(rows: pd.DataFrame, others: pd.DataFrame) -> pd.Series[bool]:
    """Tell which rows share a fact, a prompt or an id with others."""
    facts, other_facts = (table["fact"].map(normal_form) for table in (rows, others))
    same = among(facts, other_facts.astype(facts.dtype)) | among(rows["id"], others["id"])
    return pd.Series(same, index=rows.index) | prompt_keys(rows).isin(prompt_keys(others))


def _groups(rows: pd.DataFrame, *, by_answer: bool) -> np.ndarray:  # type: ignore[type-arg]
    """Number the groups of rows that are linked by a fact, a prompt or, where that counts, an answer  # (rows,)."""
    places = np.arange(len(rows))
    links = [(places, rows["fact"].map(normal_form)), (places, prompt_keys(rows))]
    if by_answer:
        answers = answers_of(rows)
        links.append((np.repeat(places, answers.map(len)), answers.explode()))
    size, edges = len(rows), []
    for ends, names in links:
        numbers, different = pd.factorize(names)
        edges.append((ends, numbers + size))
        size += len(different)
    one, other = (np.concatenate(side) for side in zip(*edges, strict=True))
    graph = coo_array((np.ones(len(one), dtype=bool), (one, other)), shape=(size, size))
    found: np.ndarray = connected_components(graph, directed=False)[1][: len(rows)]  # type: ignore[type-arg]
    return found


def answers_of(rows: pd.DataFrame) -> pd.Series[Any]:
    """Give the normal forms of each row's right answers, without the signs around them."""
    names = [[normal_form(one).strip(AROUND) or one for one in rights] for rights in right_answers(rows)]
    return pd.Series(names, index=rows.index)
