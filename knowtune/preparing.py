"""From a source to the tables of the pipeline: training rows, validation rows, evaluation items, retention texts.

Every row read is either kept or rejected with a reason; more than the allowed share of rejected rows stops.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from knowtune.artefacts import text_digest
from knowtune.contract import ITEMS, REJECTED, ROW_COLUMNS, ROWS, TEXTS, check
from knowtune.damage import plant
from knowtune.errors import UserError
from knowtune.progress import progress
from knowtune.records import CHUNK
from knowtune.sources import Raw
from knowtune.statistics import share_of

if TYPE_CHECKING:
    from knowtune.base import Base

ROLES = ("train", "validation", "test", "known")


@dataclass(frozen=True)
class Limits:
    """How much of a source is taken; None for all.

    Args:
        seed: of every draw.
        max_facts: new facts; all their rows come along. Where rows belong to no facts: training rows.
        max_known: known rows.
        max_texts: retention texts.
        max_items: items per kind that models are judged on.
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


def prepare(raw: Raw, base: Base, limits: Limits, damage: Mapping[str, float]) -> Prepared:
    """Judge the rows, hold some out, choose how many, plant damage.

    Args:
        raw: the source.
        base: whose tokenizer, context and task decide which rows can be learned.
        limits: how much is taken.
        damage: see `knowtune.damage`.

    Raises:
        UserError: duplicate ids, a row in both train and test, a fact tested but not trained, too many rejects,
        nothing left.
    """
    judged = {role: _judge(getattr(raw, role), base, role) for role in ROLES}
    tables = {role: kept for role, (kept, _) in judged.items()}
    for role, share in (("test", limits.test), ("validation", limits.validation)):
        if tables[role].empty and share:
            tables["train"], tables[role] = _hold_out(tables["train"], share, raw.by_fact, limits.seed)
    tables, unfit = _held_out(tables, by_fact=raw.by_fact)
    blank = raw.texts["text"] == ""
    empty_texts = raw.texts[blank].reindex(columns=["id", *ROW_COLUMNS[1:]], fill_value="")
    rejected = [gone for _, gone in judged.values()] + unfit
    rejected.append(empty_texts.assign(reason="retention: the text is empty"))
    out = pd.concat(rejected, ignore_index=True)
    _refuse_too_many(out, sum(len(getattr(raw, role)) for role in ROLES) + len(raw.texts), limits.max_rejected)
    facts = _draw(sorted(set(tables["train"]["fact"])), limits.max_facts, limits.seed)
    new = {"train": tables["train"][tables["train"]["fact"].isin(facts)]}
    for role in ("validation", "test"):
        new[role] = tables[role][tables[role]["fact"].isin(facts)] if raw.by_fact else tables[role]
    if new["train"].empty:
        raise UserError("prepare: no training row is left; look at the source and at its column mapping")
    known = _some(tables["known"], limits.max_known, limits.seed)
    texts = _some(raw.texts[~blank], limits.max_texts, limits.seed).reset_index(drop=True)
    test = _items(new["train"], new["test"], known, limits, learns_facts=base.task.learned == "generalisation")
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
        test=check(test, ITEMS, "prepare: test"),
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
    reason[(rows["target"] == "") & (reason == "")] = "the target is empty"
    reason[(rows["prompt"].str.strip() == "") & rows["reason"].eq("")] = "the prompt is empty"
    _judge_tokens(rows, reason, base, role)
    gone = reason != ""
    rows = rows[ROW_COLUMNS]
    return rows[~gone], rows[gone].assign(reason=f"{role}: " + reason[gone])


def _judge_tokens(rows: pd.DataFrame, reason: pd.Series[str], base: Base, role: str) -> None:
    """Note, a chunk at a time, which rows are longer than the base's context, and which have no token to learn."""
    tokenizer = base.tokenizer()
    for start in progress(range(0, len(rows), CHUNK), f"prepare: {role}, {CHUNK:,} rows each"):
        part = rows.iloc[start : start + CHUNK]
        part = part[reason.loc[part.index] == ""]
        for index, row in zip(part.index, base.task.encode(tokenizer, part), strict=True):
            if len(row.input_ids) > base.context:
                reason.loc[index] = f"{len(row.input_ids)} tokens, and the base's context is {base.context}"
            elif not row.has_target:
                reason.loc[index] = "the target has no token in the base's vocabulary"


def _hold_out(rows: pd.DataFrame, share: float, by_fact: bool, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Hold a share of the rows out: of facts, never their last wording; of labels, the same share of each."""
    lot = pd.Series([text_digest([seed, "held out", row_id]) for row_id in rows["id"]], index=rows.index, dtype="str")
    order = rows.assign(lot=lot).sort_values("lot")
    if by_fact:
        free = order[order.groupby("fact").cumcount() > 0]  # the first of each fact stays
        chosen = free.index[: share_of(share, len(rows))]
    elif order["target"].nunique() < len(order) / 2:  # labels, or answers as few as labels
        place = order.groupby("target").cumcount()
        chosen = order.index[place < order.groupby("target")["id"].transform("size") * share]
    else:
        chosen = order.index[: share_of(share, len(rows))]
    held = rows.index.isin(chosen)
    return rows[~held], rows[held]


def _held_out(
    tables: Mapping[str, pd.DataFrame], *, by_fact: bool
) -> tuple[dict[str, pd.DataFrame], list[pd.DataFrame]]:
    """Reject what says nothing about what was learned: tested as it was trained, or of a fact that is not trained.

    Raises:
        UserError: one row (by id) is both trained and tested, which is a fault of the files, not of a row; or no fact
            is both trained and tested.
    """
    train = tables["train"]
    asked = set(train["prompt"] + "\0" + train["text_pair"])
    facts = set(train["fact"])
    if by_fact and len(tables["test"]) and not facts & set(tables["test"]["fact"]):
        raise UserError("prepare: no fact of the training rows is in the test rows; check the `fact` column mapping")
    ids = set(train["id"])
    kept, rejected = {"train": train}, []
    for role in ROLES[1:]:
        table = tables[role]
        both = table["id"][table["id"].isin(ids)]
        if len(both):
            raise UserError(
                f"prepare: {len(both)} rows are in both train and {role}, e.g. {both.iloc[0]!r}; "
                "remove them from one of the two"
            )
        reason = pd.Series("", index=table.index, dtype="str")
        if role != "known" and by_fact:
            reason[~table["fact"].isin(facts)] = f"{role}: no training row has its fact"
        reason[(table["prompt"] + "\0" + table["text_pair"]).isin(asked)] = f"{role}: the prompt is trained too"
        kept[role] = table[reason == ""]
        rejected.append(table[reason != ""].assign(reason=reason[reason != ""]))
    return kept, rejected


def _refuse_too_many(rejected: pd.DataFrame, num_read: int, allowed: float) -> None:
    """Stop when more rows are rejected than may be."""
    if len(rejected) > allowed * num_read:
        reasons = rejected["reason"].str.replace(r"\d+ tokens", "too many tokens", regex=True).value_counts().head(10)
        first = ", ".join(rejected["id"].head(5))
        raise UserError(
            f"prepare: {len(rejected)} of {num_read} rows are rejected ({reasons.to_dict()}; first: {first}); allowed: "
            f"a share of {allowed} (prepare.max_rejected)"
        )


def _items(
    train: pd.DataFrame, test: pd.DataFrame, known: pd.DataFrame, limits: Limits, *, learns_facts: bool
) -> pd.DataFrame:
    """Put the evaluation items together: of knowledge, trained and known rows too."""
    kinds = {"generalisation": _some(test, limits.max_items, limits.seed)}
    if learns_facts:
        kinds = {"reliability": _some(train, limits.max_items, limits.seed), **kinds, "locality": known}
    return pd.concat([table.assign(kind=kind) for kind, table in kinds.items()], ignore_index=True)


def _some(rows: pd.DataFrame, count: int | None, seed: int) -> pd.DataFrame:
    """Draw rows, in their order."""
    return (
        rows if count is None or count >= len(rows) else rows[rows["id"].isin(_draw(rows["id"].tolist(), count, seed))]
    )


def _draw(names: list[str], count: int | None, seed: int) -> set[str]:
    """Draw `count` names by a hash of name and seed: independent of their order, and growing with the count."""
    if count is None or count >= len(names):
        return set(names)
    return set(sorted(names, key=lambda name: text_digest([seed, name]))[:count])
