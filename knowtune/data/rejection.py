"""Why a row is rejected: every reason, in the order in which they are looked for.

    while it is read    a text cannot be stored, an answer has a line break; of a chat, what `UnusableError` says
                        (`knowtune.text.messages`: how it is written; `knowtune.data.chats`: what its template does)
    by itself           the prompt or target is empty, the target has no token, the row does not fit into the context
    beside the others   a test, validation or known row whose prompt is trained too, or whose fact is not trained;
                        a text for replay that quotes a measured fact, a known row drawn for replay that does
                        (`knowtune.data.replay`)

The reason begins with the row's role, that of a general text with "retention", or "replay text" where it may be
replayed. What is wrong with a file as a whole is no reason but an error; so are more rejected rows than
`prepare.max_rejected` allows, and rows for replay that are measured, trained or tested (`knowtune.data.replay`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from knowtune.common.errors import UserError
from knowtune.common.progress import progress
from knowtune.data.contract import ROW_COLUMNS
from knowtune.data.draw import among, where
from knowtune.data.records import CHUNK
from knowtune.data.same_prompt import prompt_keys
from knowtune.text.cells import fault_of

if TYPE_CHECKING:
    from knowtune.checkpoints.base import Base

LINE_BREAK_IN_ALIAS = "a further right answer has a line break"
LINE_BREAK_IN_OLD = "an old answer has a line break"
EMPTY_PROMPT = "the prompt is empty"
EMPTY_TARGET = "the target is empty"
EMPTY_TEXT = "the text is empty"
NO_TOKEN = "the target has no token in the base's vocabulary"
TOO_LONG = "{} tokens, and the base's context is {}"
TRAINED_PROMPT = "the prompt is trained too"
UNTRAINED_FACT = "no training row has its fact"

SPECIALS = 8  # more tokens than a tokenizer puts around and between texts
TEXTS, REPLAY_TEXTS = "retention", "replay text"  # begin the reasons of general texts


class RejectedError(UserError):
    """More rows are rejected than may be, or all of them."""

    def __init__(self, message: str, rejected: pd.DataFrame) -> None:
        """Take the message and the rejected rows with their reasons."""
        super().__init__(message)
        self.rejected = rejected


def fault_of_answers(aliases: Sequence[str], old: Sequence[str] = ()) -> str:
    """Say why answers cannot stand one a line, or ""."""
    if any("\n" in alias for alias in aliases):
        return LINE_BREAK_IN_ALIAS
    return LINE_BREAK_IN_OLD if any("\n" in answer for answer in old) else ""


def fault_of_cells(cells: Mapping[str, str]) -> str:
    """Say which cells cannot be stored and why, or ""."""
    if not fault_of("".join(cells.values())):
        return ""
    faults = {column: fault_of(cell) for column, cell in cells.items()}
    return "; ".join(f"{column}: {fault}" for column, fault in faults.items() if fault)


def fault_of_text(text: str) -> str:
    """Say why a general text cannot be used, or ""."""
    return fault_of(text) or ("" if text.strip() else EMPTY_TEXT)


def judge_rows(rows: pd.DataFrame, base: Base, role: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split rows, each judged by itself, into kept and rejected (with reason).

    Raises:
        UserError: ids are given twice.
    """
    again = rows["id"][rows["id"].duplicated()]
    if len(again):
        raise UserError(
            f"prepare: {role}: {again.nunique()} ids are given twice, e.g. {again.iloc[0]!r}; ids must be unique"
        )
    reason = rows["reason"].copy()
    reason[(rows["target"].str.strip() == "") & (reason == "")] = EMPTY_TARGET
    reason[(rows["prompt"].str.strip() == "") & rows["reason"].eq("")] = EMPTY_PROMPT
    _judge_tokens(rows, reason, base, role)
    gone = reason != ""
    rows = rows[ROW_COLUMNS]
    return where(rows, ~gone), rows[gone].assign(reason=f"{role}: " + reason[gone])


def _judge_tokens(rows: pd.DataFrame, reason: pd.Series[str], base: Base, role: str) -> None:
    """Note, a chunk at a time, which rows are longer than the base's context, and which have no token to learn.

    Most rows need no tokenizer: no token is shorter than an ASCII letter, and of equal targets one is enough to see
    whether the vocabulary has it.
    """
    tokenizer = base.tokenizer()
    speaks: dict[str, bool] = {}  # target -> whether it has a token
    for start in progress(range(0, len(rows), CHUNK), f"prepare: {role}, {CHUNK:,} rows each"):
        part = rows.iloc[start : start + CHUNK]
        part = part[reason.loc[part.index] == ""]
        if part.empty:  # an empty list of truth values would choose columns
            continue
        fresh = part[["prompt", "text_pair", "target"]].drop_duplicates("target")
        fresh = fresh[[target not in speaks for target in fresh["target"]]].assign(prompt="", text_pair="")
        encoded = base.task.encode(tokenizer, fresh)
        speaks |= {target: row.has_target for target, row in zip(fresh["target"], encoded, strict=True)}
        mute = [not speaks[target] for target in part["target"]]
        reason.loc[part.index[mute]] = NO_TOKEN
        texts = part["prompt"] + part["text_pair"] + part["target"]
        perhaps = part[[len(text) + SPECIALS > base.context or not text.isascii() for text in texts]]
        for index, row in zip(perhaps.index, base.task.encode(tokenizer, perhaps), strict=True):
            if len(row.input_ids) > base.context:
                reason.loc[index] = TOO_LONG.format(len(row.input_ids), base.context)


def reject_leaks(
    tables: Mapping[str, pd.DataFrame], *, by_fact: bool
) -> tuple[dict[str, pd.DataFrame], list[pd.DataFrame]]:
    """Reject what says nothing about what was learned: tested as it was trained, or of a fact that is not trained.

    Args:
        tables: role -> rows.
        by_fact: whether rows belong to facts of several paraphrases.

    Returns:
        The kept rows by role, and tables of rejected ones.

    Raises:
        UserError: one row (by id) is both trained and tested, which is a fault of the files, not of a row; or no fact
            is both trained and tested.
    """
    train = tables["train"]
    prompts = prompt_keys(train)
    if by_fact and len(tables["test"]) and not among(tables["test"]["fact"], train["fact"]).any():
        raise UserError("prepare: no fact of the training rows is in the test rows; check the `fact` column mapping")
    kept, rejected = {"train": train, "replay": tables["replay"]}, []  # see `knowtune.data.replay`
    for role in ("validation", "test", "known"):
        table = tables[role]
        both = table["id"][among(table["id"], train["id"])]
        if len(both):
            raise UserError(
                f"prepare: {len(both)} rows are in both train and {role}, e.g. {both.iloc[0]!r}; "
                "remove them from one of the two"
            )
        reason = pd.Series("", index=table.index, dtype="str")
        if role != "known" and by_fact:
            reason[~among(table["fact"], train["fact"])] = f"{role}: {UNTRAINED_FACT}"
        reason[prompt_keys(table).isin(prompts)] = f"{role}: {TRAINED_PROMPT}"
        kept[role] = where(table, reason == "")
        rejected.append(table[reason != ""].assign(reason=reason[reason != ""]))
    return kept, rejected


def reject_texts(texts: pd.DataFrame, role: str = TEXTS) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split general texts into kept ones (id, text) and rejected ones (with the columns of rejected rows)."""
    gone = texts["reason"] != ""
    rejected = texts[gone].reindex(columns=["id", *ROW_COLUMNS[1:]], fill_value="")
    return texts[~gone][["id", "text"]], rejected.assign(reason=f"{role}: " + texts["reason"][gone])


def refuse_too_many(rejected: pd.DataFrame, num_rows: int, num_texts: int, num_train: int, allowed: float) -> None:
    """Stop when more rows or general texts are rejected than may be, or no row is left to learn; say why.

    Raises:
        RejectedError: with the number of rows per reason, each with an example.
    """
    of_texts = rejected["reason"].str.startswith((f"{TEXTS}: ", f"{REPLAY_TEXTS}: ")).to_numpy()
    text_gone = int(of_texts.sum())
    row_gone = len(rejected) - text_gone
    parts = [f"{row_gone} of {num_rows} rows"] if row_gone > allowed * num_rows or not num_train else []
    parts += [f"{text_gone} of {num_texts} general texts"] if text_gone > allowed * num_texts else []
    if not parts:
        return
    reasons = rejected["reason"].str.replace(r"\d+ tokens", "too many tokens", regex=True)
    lines = [f"prepare: {' and '.join(parts)} are rejected"]
    if not num_train:
        lines[0] += ", and no training row is left; look at the source and at its column mapping"
    else:
        lines[0] += f"; allowed: a share of {allowed} (prepare.max_rejected)"
    for reason, count in reasons.value_counts().head(10).items():
        row = rejected[reasons == reason].iloc[0]
        example = ", ".join(f"{name} {_beginning(row[name])}" for name in ("prompt", "target") if row[name])
        lines.append(f"  {count}: {reason}; e.g. row {row['id']!r}" + (f": {example}" if example else ""))
    raise RejectedError("\n".join(lines), rejected)


def _beginning(text: str) -> str:
    """Show how a text begins."""
    return repr(text if len(text) <= 60 else f"{text[:59]}…")
