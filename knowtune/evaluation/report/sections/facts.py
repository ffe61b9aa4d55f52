"""Section: what was learned and what was forgotten, fact by fact and by relation.

The rows of every model can be looked through on the page. They are held once, with one letter a model and row for how
many of its seeds are right, so that ten models of fifteen hundred rows fill no megabytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from knowtune.evaluation.leaderboard import metric_class
from knowtune.evaluation.push_away import shorten
from knowtune.evaluation.report.contents import Model, Report
from knowtune.evaluation.report.section import Section
from knowtune.evaluation.report.sections.answer import suggest
from knowtune.evaluation.retention_columns import set_rows

if TYPE_CHECKING:
    import pandas as pd

MOST_RELATIONS = 40  # lines of a table
MOST_ROWS = 2000  # that can be looked through; all are in what the evaluation wrote
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"  # seeds that are right, of at most 35
NEW, KNOWN = "generalisation", "locality"
KINDS = {"reliability": "new, as trained", NEW: "new, other wording", KNOWN: "known before"}


def show(report: Report) -> Mapping[str, Any] | None:
    """Make a table of relations for what was learned and for what was lost, and the rows to look through."""
    is_counted = metric_class(report.axes[1]).unit == "share"  # a regression's rows are not right or wrong
    models = report.models if is_counted else []
    tables = [table for table in (_table(models, NEW, "learned"), _table(models, KNOWN, "lost")) if table]
    shown = {
        "judged": report.verdict["judged"] if report.verdict else suggest(report),
        "tables": tables,
        "rows": rows_of(models, report.prompts),
        "retained": set_rows(report.sets, report.retained),
    }
    return shown if shown["tables"] or shown["rows"] or shown["retained"] or report.interference else None


def _table(models: Sequence[Model], kind: str, what: str) -> dict[str, Any] | None:
    """Give a share for each relation and model: of what was learned, or of what the base knew and the model lost."""
    shares, counts = {}, None
    for model in models:
        table = model.examples[model.examples["kind"] == kind] if "kind" in model.examples else model.examples[:0]
        if what == "lost":
            table = table[table["base_correct"].astype(bool)]
        if table.empty:
            return None
        right = table["correct"].astype(bool)
        counts = table.drop_duplicates("id").groupby("relation").size() if counts is None else counts
        shares[model.entry.name] = (right if what == "learned" else ~right).groupby(table["relation"]).mean()
    if counts is None or len(counts) < 2:
        return None
    largest = sorted(counts.index, key=lambda relation: (-int(counts[relation]), relation))[:MOST_RELATIONS]
    rows = [
        {
            "relation": relation,
            "count": int(counts[relation]),
            "cells": [float(share.get(relation, 0.0)) for share in shares.values()],
        }
        for relation in largest
    ]
    return {"what": what, "models": list(shares), "rows": rows, "left_out": len(counts) - len(largest)}


def rows_of(models: Sequence[Model], prompts: Mapping[str, str]) -> dict[str, Any] | None:
    """Gather the rows that can be looked through.

    Args:
        models: runs and mixtures.
        prompts: of the evaluation examples, by id.

    Returns:
        `rows`: numbers of relation and kind, prompt, target, whether the base is right and what it answers; `relations`
        and `kinds`: their names; `models`: of each its
        number of seeds, how many are right on each row (a digit a row, to the base 36) and the answer of its first
        seed that is wrong, by the row's number; `total`: how many rows there are.
    """
    if not models or "id" not in models[0].examples:
        return None
    first = models[0].examples.drop_duplicates("id")
    total, first = len(first), first[:MOST_ROWS]
    relations = sorted(first["relation"].unique())
    kinds = list(first["kind"].unique())
    rows = [
        [
            relations.index(row["relation"]),
            kinds.index(row["kind"]),
            shorten(prompts.get(row["id"], row["id"])),
            shorten(row["target"]),
            int(row["base_correct"]),
            shorten(str(row.get("base_answer") or "")),
        ]
        for row in first.to_dict("records")
    ]
    ids = first["id"].tolist()
    verdicts = {model.entry.name: _verdicts(model.examples, ids) for model in models}
    names = ["held out"] if kinds == [NEW] else [KINDS.get(kind, kind) for kind in kinds]
    about = {"relations": relations, "kinds": names}
    return {"rows": rows, "total": total, "models": verdicts, **about}


def _verdicts(examples: pd.DataFrame, ids: Sequence[str]) -> dict[str, Any]:
    """Count the seeds that are right on each row, and keep an answer of a seed that is wrong."""
    right = examples["correct"].astype(bool).groupby(examples["id"]).sum()
    num_seeds = int(examples["seed"].nunique())
    wrong = examples[~examples["correct"].astype(bool)].drop_duplicates("id")
    column = next((name for name in ("answer", "predicted") if name in wrong), None)
    given = {} if column is None else dict(zip(wrong["id"], wrong[column], strict=True))
    answers = {str(i): shorten(str(given[key] or "")) for i, key in enumerate(ids) if key in given}
    digits = "".join(DIGITS[min(int(right[key]), len(DIGITS) - 1)] for key in ids)
    return {"seeds": num_seeds, "right": digits, "answers": answers}


SECTION = Section("facts", "Facts", "What was learned and forgotten, fact by fact", "facts.html.j2", show)
