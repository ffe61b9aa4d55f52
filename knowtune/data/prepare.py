"""From a source to the tables of the pipeline: training rows, validation rows, evaluation examples, retention texts.

Every row read is kept, rejected with a reason (see `knowtune.data.rejection`), or not drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from knowtune.data.contract import EXAMPLES, REJECTED, ROLES, ROWS, TEXTS, check
from knowtune.data.draw import among, draw, draw_rows, where
from knowtune.data.hold_out import hold_out
from knowtune.data.label_noise import inject
from knowtune.data.quoting import QUOTING_ROW, count_quoting, count_same_answers, refuse_quoting, reject_quoting
from knowtune.data.rejection import REPLAY_TEXTS, judge_rows, refuse_too_many, reject_leaks, reject_texts
from knowtune.data.replay import (
    Spare,
    lacks_subjects,
    refuse_overlap,
    refuse_same_texts,
    split_known,
    split_texts,
)
from knowtune.data.same_prompt import prompt_keys, share_answers

if TYPE_CHECKING:
    from knowtune.checkpoints.base import Base
    from knowtune.data.raw import Raw

DRAWN_TOGETHER = (
    "no column names the facts or the subjects of known rows, so all rows of an answer are replayed or all measure: "
    "{} of {} may be replayed; name one in `source.columns`, and each fact is drawn by itself"
)


@dataclass(frozen=True)
class Limits:
    """How much of a source is taken; None for all.

    Args:
        seed: of every draw.
        max_facts: new facts; all their rows come along. Where rows belong to no facts: training rows.
        max_known: known rows.
        max_texts: retention texts.
        max_examples: evaluation examples per kind.
        max_rejected: share of rows whose rejection still lets the stage go on.
        validation: share of the training rows that is held out where there is no validation file.
        test: the same where there is no test file.
        replay: what may be replayed.
    """

    seed: int
    max_facts: int | None
    max_known: int | None
    max_texts: int | None
    max_examples: int | None
    max_rejected: float
    validation: float = 0.0
    test: float = 0.0
    replay: Spare = field(default_factory=Spare)


@dataclass(frozen=True)
class Prepared:
    """The tables that `prepare` writes, their sizes, and what a user should know of them."""

    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame
    retention: pd.DataFrame
    replay: pd.DataFrame
    replay_texts: pd.DataFrame
    rejected: pd.DataFrame
    label_noise: pd.DataFrame
    summary: dict[str, Any]
    cautions: list[str]


def prepare(
    raw: Raw, base: Base, limits: Limits, noise: Mapping[str, float], *, several_answers: bool = False
) -> Prepared:
    """Judge the rows, hold some out, choose how many, inject label noise.

    Args:
        raw: the source.
        base: whose tokenizer, context and task decide which rows can be learned.
        limits: how much is taken.
        noise: rates, see `knowtune.data.label_noise`.
        several_answers: whether rows of one prompt are right answers of each other. Each is learned, and models are
            judged on the first of them, with the others as further right answers.

    Raises:
        UserError: duplicate ids, a row in both train and test, a fact tested but not trained, what is given for replay
            measured too, or paraphrases of it.
        RejectedError: too many rejects, or no training row left.
    """
    kept, rejected_rows = _keep(raw, base, limits, several_answers=several_answers)
    texts, replay_texts, rejected_texts = _texts(raw, limits)
    rejected = pd.concat([*rejected_rows, *rejected_texts], ignore_index=True)
    num_read = sum(len(getattr(raw, role)) for role in ROLES)
    num_texts = len(raw.texts) + len(raw.replay_texts)
    refuse_too_many(rejected, num_read, num_texts, len(kept["train"]), limits.max_rejected)
    facts = draw(kept["train"]["fact"].drop_duplicates(), limits.max_facts, limits.seed)
    learns_facts = base.task.learned == "generalisation"
    unnamed = learns_facts and not raw.by_fact  # no name tells which rows are of one fact
    by_answer = unnamed and lacks_subjects(kept["known"])
    drawn = _draw_tables(kept, facts, limits, by_fact=raw.by_fact, by_answer=by_answer)
    test = _examples(drawn, limits, learns_facts=learns_facts, once=several_answers)
    replay_texts, quoting = reject_quoting(replay_texts, test)
    rejected = pd.concat([rejected, quoting], ignore_index=True)  # what quotes is no fault that `max_rejected` counts
    replay = drawn["replay"].reset_index(drop=True)
    if unnamed:
        refuse_quoting(kept["replay"], test)
        replay, quoting = reject_quoting(replay, test, QUOTING_ROW)
        rejected = pd.concat([rejected, quoting], ignore_index=True)
    train, injected = inject(drawn["train"].reset_index(drop=True), noise, limits.seed)
    summary = {
        "facts": len(facts),
        "train": len(train),
        "validation": len(drawn["validation"]),
        "test": test["kind"].value_counts().sort_index().to_dict(),
        "retention": len(texts),
        "rejected": len(rejected),
        "not_drawn": sum(map(len, kept.values())) - sum(map(len, drawn.values())),
        "label_noise": injected["kind"].value_counts().sort_index().to_dict(),
        **({"replay": len(replay)} if len(replay) else {}),
        **({"replay_texts": len(replay_texts)} if len(replay_texts) else {}),
    }
    rejected = check(rejected, REJECTED, "prepare: rejected")
    cautions = count_quoting(rejected)
    if by_answer and limits.replay.known:
        num_drawn = int(among(replay["id"], kept["known"]["id"]).sum())
        cautions.append(DRAWN_TOGETHER.format(num_drawn, len(kept["known"])))
    if unnamed:
        cautions += count_same_answers(kept["replay"], kept["known"])
    return Prepared(
        train=check(train, ROWS, "prepare: train"),
        validation=check(drawn["validation"].reset_index(drop=True), ROWS, "prepare: validation"),
        test=check(test, EXAMPLES, "prepare: test"),
        retention=check(texts, TEXTS, "prepare: retention"),
        replay=check(replay.reset_index(drop=True), ROWS, "prepare: replay"),
        replay_texts=check(replay_texts.reset_index(drop=True), TEXTS, "prepare: replay texts"),
        rejected=rejected,
        label_noise=injected,
        summary=summary,
        cautions=cautions,
    )


def _keep(
    raw: Raw, base: Base, limits: Limits, *, several_answers: bool
) -> tuple[dict[str, pd.DataFrame], list[pd.DataFrame]]:
    """Judge all rows, and hold some out where a role has no file: kept rows by role, and tables of rejected ones."""
    judged = {role: judge_rows(getattr(raw, role), base, role) for role in ROLES}
    tables = {role: kept for role, (kept, _) in judged.items()}
    shares = {"test": limits.test, "validation": limits.validation}
    shares = {role: share for role, share in shares.items() if share and tables[role].empty}
    if shares:
        tables |= hold_out(tables["train"], shares, limits.seed, by_fact=raw.by_fact)
    if several_answers:
        tables = {role: share_answers(table, prompt_keys(table)) for role, table in tables.items()}
    tables, leaks = reject_leaks(tables, by_fact=raw.by_fact)
    return tables, [*(rejected for _, rejected in judged.values()), *leaks]


def _texts(raw: Raw, limits: Limits) -> tuple[pd.DataFrame, pd.DataFrame, list[pd.DataFrame]]:
    """Judge and draw general texts: those that measure, those that may be replayed, and tables of rejected ones."""
    texts, rejected = reject_texts(raw.texts)
    given, rejected_given = reject_texts(raw.replay_texts, REPLAY_TEXTS)
    if raw.spare_texts is None:
        texts, spare = split_texts(texts, limits.replay.text, limits.seed)
    else:
        spare = split_texts(reject_texts(raw.spare_texts)[0], limits.replay.text, limits.seed)[1]
    replay = pd.concat([given, spare], ignore_index=True)
    refuse_same_texts(replay, texts)
    texts = draw_rows(texts, limits.max_texts, limits.seed).reset_index(drop=True)
    replay = draw_rows(replay, limits.replay.max_texts, limits.seed).reset_index(drop=True)
    return texts, replay, [rejected, rejected_given]


def _draw_tables(
    kept: Mapping[str, pd.DataFrame], facts: pd.Series[str], limits: Limits, *, by_fact: bool, by_answer: bool
) -> dict[str, pd.DataFrame]:
    """Take the rows of the drawn facts, and draw known rows and rows for replay, which have no fact in common."""
    new, spare = {role: kept[role] for role in ROLES[:3]}, limits.replay
    known, replay = split_known(kept["known"], new, spare.known, limits.seed, by_answer=by_answer)
    refuse_overlap(kept["replay"], {**new, "known": kept["known"]})
    replay = pd.concat([kept["replay"], replay])
    of_facts = {role: where(rows, among(rows["fact"], facts)) for role, rows in new.items()}
    return {
        **(of_facts if by_fact else {**new, "train": of_facts["train"]}),
        "known": draw_rows(known, limits.max_known, limits.seed),
        "replay": draw_rows(replay, spare.max_known, limits.seed),
    }


def _examples(drawn: Mapping[str, pd.DataFrame], limits: Limits, *, learns_facts: bool, once: bool) -> pd.DataFrame:
    """Put the evaluation examples together: of knowledge, trained and known rows too.

    Args:
        drawn: role -> rows.
        limits: how many of a kind.
        learns_facts: whether the task is knowledge.
        once: judge each prompt once.
    """
    train, test, known = (drawn[role] for role in ("train", "test", "known"))
    if once:
        train, test, known = (where(rows, ~prompt_keys(rows).duplicated()) for rows in (train, test, known))
    kinds = {"generalisation": draw_rows(test, limits.max_examples, limits.seed)}
    if learns_facts:
        trained = draw_rows(train, limits.max_examples, limits.seed)
        kinds = {"reliability": trained, **kinds, "locality": known}
    return pd.concat([table.assign(kind=kind) for kind, table in kinds.items()], ignore_index=True)
