"""From a source to the tables of the pipeline: training rows, validation rows, evaluation items, retention texts.

Every row read is either kept or rejected with a reason. What is wrong with a file as a whole (missing, broken line,
column not there) stops at once; what is wrong with a row rejects the row, and stops when more than the allowed
share is rejected.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from knowtune.artefacts import text_digest
from knowtune.contract import ITEMS, REJECTED, ROW_COLUMNS, ROWS, TEXTS, check
from knowtune.damage import plant
from knowtune.errors import UserError, nearest
from knowtune.facts import read_authored


@dataclass(frozen=True)
class Raw:
    """A source as rows, before anything is judged. All of one shape: ROW_COLUMNS, texts: id, text."""

    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame
    known: pd.DataFrame
    texts: pd.DataFrame


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


def read_embedded(folder: Path, text: Path, num_train: int, num_validation: int, num_test: int) -> Raw:
    """Read the authored facts and the held-out part of a general text; see `knowtune.facts` for who sees which wording.

    Raises:
        UserError: more wordings are asked for than a relation has besides its facts' own.
    """
    authored = read_authored(folder, text)
    fewest = min(len(templates) for templates in authored.wordings.values())
    if num_train + num_validation + num_test > fewest:
        raise UserError(
            f"params.yaml: source.wordings: got {num_train} + {num_validation} + {num_test}; "
            f"allowed: up to {fewest} in all, the wordings of the relation that has fewest"
        )
    heldout = authored.text[authored.text["split"] == "heldout"]
    texts = pd.DataFrame(
        {"id": [f"text:{i}" for i in range(len(heldout))], "text": heldout["text"].tolist()}, dtype="str"
    )
    start, middle = num_train, num_train + num_validation
    return Raw(
        train=authored.rows("new", range(num_train)),
        validation=authored.rows("new", range(start, middle)),
        test=authored.rows("new", range(middle, middle + num_test)),
        known=authored.rows("known", range(1)),
        texts=texts,
    )


def read_jsonl(data: Path, text: Path, files: Mapping[str, str | list[str] | None], columns: Mapping[str, Any]) -> Raw:
    """Read JSON-lines files with a column mapping.

    Args:
        data: folder of the files.
        text: a JSON-lines file of general text.
        files: for train, validation, test and known: a file name, several, or None.
        columns: which column is which.
    """

    def read(role: str) -> pd.DataFrame:
        names, seen = files[role] or [], dict[str, int]()
        tables = [_table(data / name, columns, seen) for name in ([names] if isinstance(names, str) else names)]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=ROW_COLUMNS, dtype="str")

    found = _read_lines(text, [columns["text"]])
    texts = pd.DataFrame(
        {"id": [f"text:{i}" for i in range(len(found))], "text": [r[columns["text"]] for r in found]}, dtype="str"
    )
    return Raw(read("train"), read("validation"), read("test"), read("known"), texts)


def _read_lines(path: Path, needed: Sequence[str]) -> list[dict[str, Any]]:
    """Read a JSON-lines file.

    Raises:
        UserError: names the file and line of what is broken, or the column that is missing.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; check `source` in params.yaml")
    rows: list[dict[str, Any]] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise UserError(f"{path}: line {number}: not UTF-8 ({error.reason}); save the file as UTF-8") from None
            except json.JSONDecodeError as error:
                raise UserError(f"{path}: line {number}: not JSON ({error.msg}, column {error.colno})") from None
            if not isinstance(row, dict):
                raise UserError(f"{path}: line {number}: got a {type(row).__name__}; allowed: one JSON object a line")
            for column in needed:
                if column not in row:
                    hint = nearest(column, row)
                    raise UserError(
                        f"{path}: line {number}: no column {column!r}; it has {', '.join(row)}"
                        + (f"; did you mean {hint!r}?" if hint else "")
                    )
            rows.append(row)
    if not rows:
        raise UserError(f"{path}: the file is empty; it needs at least one row")
    return rows


def _table(path: Path, columns: Mapping[str, Any], seen: dict[str, int]) -> pd.DataFrame:
    """Read a file of rows into the columns of the contract.

    A missing id becomes a digest of the row and the number of its occurrence, counted in `seen` over a role's files.
    """
    facts = columns["fact"]
    fact_columns = [facts] if isinstance(facts, str) else list(facts or [])
    single = [columns[c] for c in ("id", "relation", "subject", "wording", "prompt", "target") if columns[c]]
    table = []
    for row in _read_lines(path, [*single, *fact_columns]):
        cell = {c: _cell(row.get(columns[c])) if columns[c] else "" for c in ROW_COLUMNS if c != "fact"}
        if not columns["id"]:
            digest = text_digest([cell["prompt"], cell["target"], cell["relation"], cell["subject"]])[:16]
            seen[digest] = seen.get(digest, -1) + 1
            cell["id"] = f"{digest}:{seen[digest]}"
        cell["fact"] = ":".join(_cell(row[c]) for c in fact_columns) or cell["prompt"]
        table.append(cell)
    return pd.DataFrame(table, columns=ROW_COLUMNS, dtype="str")


def _cell(value: Any) -> str:
    """Read a cell as text; null and NaN are no text."""
    return "" if value is None or value != value else str(value).strip()


def prepare(
    raw: Raw,
    *,
    seed: int,
    max_facts: int | None,
    max_known: int | None,
    max_texts: int | None,
    max_rejected: float,
    damage: Mapping[str, float],
) -> Prepared:
    """Judge the rows, choose how many, plant damage.

    Args:
        raw: the source.
        seed: of every choice.
        max_facts: how many new facts; all their rows come along. None for all.
        max_known: how many known rows. None for all.
        max_texts: how many retention texts. None for all.
        max_rejected: share of rows whose rejection still lets the stage go on.
        damage: see `knowtune.damage`.

    Raises:
        UserError: duplicate ids, a row in both train and test, a fact tested but not trained, too many rejects,
        nothing left.
    """
    tables: dict[str, pd.DataFrame] = {}
    rejected: list[pd.DataFrame] = []
    for role in ("train", "validation", "test", "known"):
        tables[role], gone = _judge(getattr(raw, role), role)
        rejected.append(gone)
    if not set(tables["train"]["fact"]) & set(tables["test"]["fact"]):
        raise UserError("prepare: no fact of the training rows is in the test rows; check the `fact` column mapping")
    tables, unfit = _held_out(tables)
    blank = raw.texts["text"].str.strip() == ""
    texts = raw.texts[blank].reindex(columns=["id", *ROW_COLUMNS[1:]], fill_value="")
    rejected += [*unfit, texts.assign(reason="retention: the text is empty")]
    out = pd.concat(rejected, ignore_index=True)
    num_read = sum(len(getattr(raw, role)) for role in tables) + len(raw.texts)
    if len(out) > max_rejected * num_read:
        reasons = out["reason"].value_counts().to_dict()
        first = ", ".join(out["id"].head(5))
        raise UserError(
            f"prepare: {len(out)} of {num_read} rows are rejected ({reasons}; first: {first}); allowed: "
            f"a share of {max_rejected} (prepare.max_rejected)"
        )
    facts = _draw(sorted(set(tables["train"]["fact"])), max_facts, seed)
    new = {role: tables[role][tables[role]["fact"].isin(facts)] for role in ("train", "validation", "test")}
    if new["train"].empty or new["test"].empty:
        raise UserError("prepare: no fact of the training rows is in the test rows; check the `fact` column mapping")
    known_ids = _draw(tables["known"]["id"].tolist(), max_known, seed)
    known = tables["known"][tables["known"]["id"].isin(known_ids)]
    texts = raw.texts[~blank]
    texts = texts[texts["id"].isin(_draw(texts["id"].tolist(), max_texts, seed))].reset_index(drop=True)
    kinds = [("reliability", new["train"]), ("generalisation", new["test"]), ("locality", known)]
    test = pd.concat([table.assign(kind=kind) for kind, table in kinds], ignore_index=True)
    train, planted = plant(new["train"].reset_index(drop=True), damage, seed)
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


def _judge(rows: pd.DataFrame, role: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split rows into kept and rejected (with reason)."""
    again = rows["id"][rows["id"].duplicated()]
    if len(again):
        raise UserError(
            f"prepare: {role}: {again.nunique()} ids are given twice, e.g. {again.iloc[0]!r}; ids must be unique"
        )
    reason = pd.Series("", index=rows.index, dtype="str")
    reason[rows["target"] == ""] = "the target is empty"
    reason[rows["prompt"] == ""] = "the prompt is empty"
    gone = reason != ""
    return rows[~gone], rows[gone].assign(reason=f"{role}: " + reason[gone])


def _held_out(
    tables: Mapping[str, pd.DataFrame],
) -> tuple[dict[str, pd.DataFrame], list[pd.DataFrame]]:
    """Reject what says nothing about other wordings: tested under a trained prompt, or of a fact that is not trained.

    Raises:
        UserError: one row (by id) is both trained and tested, which is a fault of the files, not of a row.
    """
    train = tables["train"]
    kept, rejected = {"train": train}, []
    for role in ("validation", "test", "known"):
        table = tables[role]
        both = table["id"][table["id"].isin(set(train["id"]))]
        if len(both):
            raise UserError(
                f"prepare: {len(both)} rows are in both train and {role}, e.g. {both.iloc[0]!r}; "
                "remove them from one of the two"
            )
        reason = pd.Series("", index=table.index, dtype="str")
        if role != "known":
            reason[~table["fact"].isin(set(train["fact"]))] = f"{role}: no training row has its fact"
        reason[table["prompt"].isin(set(train["prompt"]))] = f"{role}: the prompt is trained too"
        kept[role] = table[reason == ""]
        rejected.append(table[reason != ""].assign(reason=reason[reason != ""]))
    return kept, rejected


def _draw(names: list[str], count: int | None, seed: int) -> set[str]:
    """Draw `count` names by a hash of name and seed: independent of their order, and growing with the count."""
    if count is None or count >= len(names):
        return set(names)
    return set(sorted(names, key=lambda name: text_digest([seed, name]))[:count])
