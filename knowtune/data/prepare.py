"""From a source to the tables of the pipeline: training rows, validation rows, evaluation examples, retention texts.

Every row read is either kept or rejected with a reason; more than the allowed share of rejected rows stops.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from knowtune.common.errors import UserError
from knowtune.common.progress import progress
from knowtune.data.contract import EXAMPLES, REJECTED, ROW_COLUMNS, ROWS, TEXTS, check
from knowtune.data.hold_out import asked_by, hold_out, lots, share_answers
from knowtune.data.label_noise import plant
from knowtune.data.records import CHUNK
from knowtune.data.sources import ROLES, Raw

if TYPE_CHECKING:
    from knowtune.checkpoints.base import Base

SPECIALS = 8  # more tokens than a tokenizer puts around and between texts


@dataclass(frozen=True)
class Limits:
    """How much of a source is taken; None for all.

    Args:
        seed: of every draw.
        max_facts: new facts; all their rows come along. Where rows belong to no facts: training rows.
        max_known: known rows.
        max_texts: retention texts.
        max_items: evaluation examples per kind.
        max_rejected: share of rows whose rejection still lets the stage go on.
        validation: share of the training rows that is held out where there is no validation file.
        test: the same where there is no test file.
    """

    seed: int
    max_facts: int | None
    max_known: int | None
    max_texts: int | None
    max_items: int | None
    max_rejected: float
    validation: float = 0.0
    test: float = 0.0


class RejectedError(UserError):
    """More rows are rejected than may be, or all of them."""

    def __init__(self, message: str, rejected: pd.DataFrame) -> None:
        """Take the message and the rejected rows with their reasons."""
        super().__init__(message)
        self.rejected = rejected


@dataclass(frozen=True)
class Prepared:
    """The tables that `prepare` writes."""

    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame
    retention: pd.DataFrame
    rejected: pd.DataFrame
    planted: pd.DataFrame
    summary: dict[str, Any]


def prepare(
    raw: Raw, base: Base, limits: Limits, damage: Mapping[str, float], *, several_answers: bool = False
) -> Prepared:
    """Judge the rows, hold some out, choose how many, plant damage.

    Args:
        raw: the source.
        base: whose tokenizer, context and task decide which rows can be learned.
        limits: how much is taken.
        damage: see `knowtune.data.label_noise`.
        several_answers: whether rows of one prompt are right answers of each other. Each is learned, and models are
            judged on the first of them, with the others as further right answers.

    Raises:
        UserError: duplicate ids, a row in both train and test, a fact tested but not trained.
        RejectedError: too many rejects, or no training row left.
    """
    judged = {role: _judge(getattr(raw, role), base, role) for role in ROLES}
    tables = {role: kept for role, (kept, _) in judged.items()}
    shares = {"test": limits.test, "validation": limits.validation}
    shares = {role: share for role, share in shares.items() if share and tables[role].empty}
    if shares:
        train = tables["train"]
        tables |= hold_out(train, asked_by(train), shares, limits.seed, by_fact=raw.by_fact)
    if several_answers:
        tables = {role: share_answers(table, asked_by(table)) for role, table in tables.items()}
    tables, unfit = _held_out(tables, by_fact=raw.by_fact)
    unread = raw.texts["reason"] != ""
    odd_texts = raw.texts[unread].reindex(columns=["id", *ROW_COLUMNS[1:]], fill_value="")
    rejected = [gone for _, gone in judged.values()] + unfit
    rejected.append(odd_texts.assign(reason="retention: " + raw.texts["reason"][unread]))
    out = pd.concat(rejected, ignore_index=True)
    num_read = sum(len(getattr(raw, role)) for role in ROLES)
    _refuse(out, num_read, len(raw.texts), len(tables["train"]), limits.max_rejected)
    facts = _draw(tables["train"]["fact"].drop_duplicates(), limits.max_facts, limits.seed)
    new = {"train": _where(tables["train"], among(tables["train"]["fact"], facts))}
    for role in ("validation", "test"):
        new[role] = _where(tables[role], among(tables[role]["fact"], facts)) if raw.by_fact else tables[role]
    known = _some(tables["known"], limits.max_known, limits.seed)
    texts = _some(raw.texts[~unread][["id", "text"]], limits.max_texts, limits.seed).reset_index(drop=True)
    judged_on = [new["train"], new["test"], known]
    if several_answers:
        judged_on = [_where(rows, ~asked_by(rows).duplicated()) for rows in judged_on]
    test = _items(*judged_on, limits=limits, learns_facts=base.task.learned == "generalisation")
    train, planted = plant(new["train"].reset_index(drop=True), damage, limits.seed)
    summary = {
        "facts": len(facts),
        "train": len(train),
        "validation": len(new["validation"]),
        "test": test["kind"].value_counts().sort_index().to_dict(),
        "retention": len(texts),
        "rejected": len(out),
        "not_drawn": sum(len(table) for table in tables.values()) - sum(map(len, new.values())) - len(known),
        "planted": planted["kind"].value_counts().sort_index().to_dict(),
    }
    return Prepared(
        train=check(train, ROWS, "prepare: train"),
        validation=check(new["validation"].reset_index(drop=True), ROWS, "prepare: validation"),
        test=check(test, EXAMPLES, "prepare: test"),
        retention=check(texts, TEXTS, "prepare: retention"),
        rejected=check(out, REJECTED, "prepare: rejected"),
        planted=planted,
        summary=summary,
    )


def _judge(rows: pd.DataFrame, base: Base, role: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split rows into kept and rejected (with reason)."""
    again = rows["id"][rows["id"].duplicated()]
    if len(again):
        raise UserError(
            f"prepare: {role}: {again.nunique()} ids are given twice, e.g. {again.iloc[0]!r}; ids must be unique"
        )
    reason = rows["reason"].copy()
    reason[(rows["target"].str.strip() == "") & (reason == "")] = "the target is empty"
    reason[(rows["prompt"].str.strip() == "") & rows["reason"].eq("")] = "the prompt is empty"
    _judge_tokens(rows, reason, base, role)
    gone = reason != ""
    rows = rows[ROW_COLUMNS]
    return _where(rows, ~gone), rows[gone].assign(reason=f"{role}: " + reason[gone])


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
        speaks |= {
            target: row.has_target
            for target, row in zip(fresh["target"], base.task.encode(tokenizer, fresh), strict=True)
        }
        mute = [not speaks[target] for target in part["target"]]
        reason.loc[part.index[mute]] = "the target has no token in the base's vocabulary"
        texts = part["prompt"] + part["text_pair"] + part["target"]
        perhaps = part[[len(text) + SPECIALS > base.context or not text.isascii() for text in texts]]
        for index, row in zip(perhaps.index, base.task.encode(tokenizer, perhaps), strict=True):
            if len(row.input_ids) > base.context:
                reason.loc[index] = f"{len(row.input_ids)} tokens, and the base's context is {base.context}"


def _held_out(
    tables: Mapping[str, pd.DataFrame], *, by_fact: bool
) -> tuple[dict[str, pd.DataFrame], list[pd.DataFrame]]:
    """Reject what says nothing about what was learned: tested as it was trained, or of a fact that is not trained.

    Raises:
        UserError: one row (by id) is both trained and tested, which is a fault of the files, not of a row; or no fact
            is both trained and tested.
    """
    train = tables["train"]
    asked = asked_by(train)
    if by_fact and len(tables["test"]) and not among(tables["test"]["fact"], train["fact"]).any():
        raise UserError("prepare: no fact of the training rows is in the test rows; check the `fact` column mapping")
    kept, rejected = {"train": train}, []
    for role in ROLES[1:]:
        table = tables[role]
        both = table["id"][among(table["id"], train["id"])]
        if len(both):
            raise UserError(
                f"prepare: {len(both)} rows are in both train and {role}, e.g. {both.iloc[0]!r}; "
                "remove them from one of the two"
            )
        reason = pd.Series("", index=table.index, dtype="str")
        if role != "known" and by_fact:
            reason[~among(table["fact"], train["fact"])] = f"{role}: no training row has its fact"
        reason[asked_by(table).isin(asked)] = f"{role}: the prompt is trained too"
        kept[role] = _where(table, reason == "")
        rejected.append(table[reason != ""].assign(reason=reason[reason != ""]))
    return kept, rejected


def _refuse(rejected: pd.DataFrame, num_rows: int, num_texts: int, num_train: int, allowed: float) -> None:
    """Stop when more rows or general texts are rejected than may be, or no row is left to learn; say why."""
    of_texts = rejected["reason"].str.startswith("retention: ").to_numpy()
    text_gone = int(of_texts.sum())
    row_gone = len(rejected) - text_gone
    parts = [f"{row_gone} of {num_rows} rows"] if row_gone > allowed * num_rows or not num_train else []
    parts += [f"{text_gone} of {num_texts} general texts"] if text_gone > allowed * num_texts else []
    if not parts:
        return
    said = rejected["reason"].str.replace(r"\d+ tokens", "too many tokens", regex=True)
    lines = [f"prepare: {' and '.join(parts)} are rejected"]
    if not num_train:
        lines[0] += ", and no training row is left; look at the source and at its column mapping"
    else:
        lines[0] += f"; allowed: a share of {allowed} (prepare.max_rejected)"
    for reason, count in said.value_counts().head(10).items():
        row = rejected[said == reason].iloc[0]
        shown = ", ".join(f"{name} {_short(row[name])}" for name in ("prompt", "target") if row[name])
        lines.append(f"  {count}: {reason}; e.g. row {row['id']!r}" + (f": {shown}" if shown else ""))
    raise RejectedError("\n".join(lines), rejected)


def _short(text: str) -> str:
    """Show the beginning of a text."""
    return repr(text if len(text) <= 60 else f"{text[:59]}…")


def _items(
    train: pd.DataFrame, test: pd.DataFrame, known: pd.DataFrame, *, limits: Limits, learns_facts: bool
) -> pd.DataFrame:
    """Put the evaluation examples together: of knowledge, trained and known rows too."""
    kinds = {"generalisation": _some(test, limits.max_items, limits.seed)}
    if learns_facts:
        kinds = {"reliability": _some(train, limits.max_items, limits.seed), **kinds, "locality": known}
    return pd.concat([table.assign(kind=kind) for kind, table in kinds.items()], ignore_index=True)


def _where(rows: pd.DataFrame, wanted: Any) -> pd.DataFrame:
    """Take the wanted rows; of a million that are all wanted, no copy."""
    return rows if wanted.all() else rows[wanted]


def _some(rows: pd.DataFrame, count: int | None, seed: int) -> pd.DataFrame:
    """Draw rows, in their order."""
    return _where(rows, among(rows["id"], _draw(rows["id"], count, seed)))


def _draw(names: pd.Series[str], count: int | None, seed: int) -> pd.Series[str]:
    """Draw `count` names by a hash of name and seed: independent of their order, and growing with the count."""
    if count is None or count >= len(names):
        return names
    return names.iloc[lots(names, seed).argsort(kind="stable")[:count]]


def among(values: pd.Series[str], known: pd.Series[str]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Tell which values are among the known ones; pandas' own `isin` takes seconds for a million texts."""
    return np.asarray(pc.is_in(pa.array(values.array), value_set=pa.array(known.array)))
