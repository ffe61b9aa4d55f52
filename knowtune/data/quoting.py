"""What may be replayed and quotes a measured fact: it is left out, refused or counted.

A text for replay that quotes one is rejected. A row is read as such a text, its prompt and target, where no column
names the facts (`knowtune.data.replay`).
"""

from __future__ import annotations

import pandas as pd

from knowtune.common.errors import UserError
from knowtune.data.contract import ROW_COLUMNS
from knowtune.data.draw import where
from knowtune.data.quotes import Quotes
from knowtune.data.rejection import REPLAY_TEXTS
from knowtune.data.replay import NUM_NAMED, answers_of, lacks_subjects

QUOTES = "it quotes a measured fact"
QUOTING, QUOTING_ROW = f"{REPLAY_TEXTS}: {QUOTES}", f"known: {QUOTES}"
ADVICE = "; with a column for `source.columns.fact`, rows of one fact stay together"


def reject_quoting(
    replay: pd.DataFrame, measured: pd.DataFrame, reason: str = QUOTING
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split what may be replayed into what quotes no measured fact, and the rejected rest, under the fact it quotes.

    Args:
        replay: texts (id, text), or rows, of which prompt and target are the text.
        measured: evaluation examples.
        reason: of the rejected ones.
    """
    quoted = _quoted(replay, measured)
    gone = quoted.notna()
    facts = quoted[gone].map(dict(zip(measured["id"], measured["fact"], strict=True)))
    rejected = replay[gone].reindex(columns=["id", *ROW_COLUMNS[1:]], fill_value="")
    return where(replay, ~gone), rejected.assign(fact=facts, reason=reason)


def refuse_quoting(replay: pd.DataFrame, measured: pd.DataFrame) -> None:
    """Refuse rows given for replay that quote a measured fact.

    Args:
        replay: rows of source.files.replay.
        measured: evaluation examples.

    Raises:
        UserError: names rows of both.
    """
    quoted = _quoted(replay, measured).dropna()
    if quoted.empty:
        return
    rows = zip(replay["id"][quoted.index].head(NUM_NAMED), quoted.head(NUM_NAMED), strict=True)
    lines = [f"  replay row {own!r} quotes the measured row {row_id!r}" for own, row_id in rows]
    if len(quoted) > NUM_NAMED:
        lines.append(f"  and {len(quoted) - NUM_NAMED} more replay rows quote measured ones")
    raise UserError(
        "prepare: rows of source.files.replay have the subject and the answer of measured ones, which would say of "
        f"what is learned again that nothing was forgotten; remove them from one of the two{ADVICE}\n"
        + "\n".join(lines)
    )


def count_quoting(rejected: pd.DataFrame) -> list[str]:
    """Say how many of the rejected texts and rows for replay quote a measured fact; nothing where none does."""
    lines = []
    for reason, what, advice in ((QUOTING, "texts", ""), (QUOTING_ROW, "known rows", ADVICE)):
        quoting = rejected[rejected["reason"] == reason]
        if len(quoting):
            named = f"{quoting['id'].iloc[0]!r} the fact {quoting['fact'].iloc[0]!r}, for instance{advice}"
            lines.append(f"{len(quoting)} {what} for replay are rejected, for they quote a measured fact: {named}")
    return lines


def count_same_answers(replay: pd.DataFrame, measured: pd.DataFrame) -> list[str]:
    """Say how many rows of source.files.replay may be paraphrases of measured ones; nothing where none may.

    Args:
        replay: rows of source.files.replay.
        measured: known rows that measure.
    """
    if replay.empty or not lacks_subjects(pd.concat([replay, measured])):
        return []
    answers = set(answers_of(measured).explode())
    same = replay[[not answers.isdisjoint(own) for own in answers_of(replay)]]
    if same.empty:
        return []
    return [
        f"{len(same)} of {len(replay)} rows of source.files.replay have the answer of a measured row, "
        f"{same['id'].iloc[0]!r} for instance; whether they are paraphrases of it cannot be seen without a column for "
        "`source.columns.fact` or `source.columns.subject`"
    ]


def _quoted(replay: pd.DataFrame, measured: pd.DataFrame) -> pd.Series[str]:
    """Give the measured row that each text or row for replay quotes; missing where there is none."""
    texts = replay["text"] if "text" in replay else replay["prompt"] + " " + replay["target"]
    quotes = Quotes(measured if len(texts) else measured.head(0))
    return pd.Series(list(map(quotes.in_text, texts)), index=replay.index, dtype="str")
