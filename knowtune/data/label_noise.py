"""Inject known label noise into training rows, so that filters can be scored by what they find.

Kinds: `wrong_same` (another fact's target of the same relation), `wrong_other` (of another relation),
`contradiction` (a further row, same prompt, other target), `duplicate` (a further, equal row), `empty` (no target).
A row carries at most one kind. All kinds pass the schema.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

import pandas as pd

from knowtune.common.errors import UserError
from knowtune.common.statistics import share_of
from knowtune.data.contract import ROW_COLUMNS

KINDS = ("wrong_same", "wrong_other", "contradiction", "duplicate", "empty")
NOISE_COLUMNS = ["id", "kind", "original", "source_id"]


def inject(rows: pd.DataFrame, rates: Mapping[str, float], seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Inject noise into a copy of the rows.

    Args:
        rows: training rows.
        rates: share of the rows for `wrong` (half per kind; where there is one relation, all of the same),
            `contradictions`, `duplicates`, `empties`.
        seed: of the draw; rows are drawn in the order of their ids, so the order read does not matter.

    Returns:
        The noisy rows (further rows at the end), and what was injected: id, kind, original target, source id.

    Raises:
        UserError: no row is left that can carry a kind.
    """
    if not any(rates.values()):
        return rows, pd.DataFrame(columns=NOISE_COLUMNS, dtype="str")
    generator = random.Random(seed)
    targets: dict[str, list[str]] = {
        str(name): sorted(set(group)) for name, group in rows.groupby("relation")["target"]
    }
    free = rows["id"].sort_values().tolist()
    generator.shuffle(free)
    table = rows.set_index("id", drop=False)
    further, injected = [], []
    for kind, count in _counts(rows, rates):
        for _ in range(count):
            row = _next_row(free, table, targets, kind)
            if row is None:
                raise UserError(
                    f"prepare.label_noise: no row is left that can carry {kind} ({count} are wanted of {len(rows)} "
                    "rows); lower the rates"
                )
            target = _noisy_target(row, targets, kind, generator)
            new_id = row["id"]
            if kind in ("contradiction", "duplicate"):
                new_id = f"{row['id']}#{kind}"
                further.append({**row, "id": new_id, "target": target})
            else:
                table.loc[row["id"], "target"] = target
            injected.append((new_id, kind, row["target"], row["id"]))
    noisy = table.reset_index(drop=True)
    if further:
        noisy = pd.concat([noisy, pd.DataFrame(further, columns=ROW_COLUMNS)], ignore_index=True)
    return noisy, pd.DataFrame(injected, columns=NOISE_COLUMNS, dtype="str")


def _counts(rows: pd.DataFrame, rates: Mapping[str, float]) -> list[tuple[str, int]]:
    """Give each kind the number of its rows."""
    num_wrong = share_of(rates["wrong"], len(rows))
    num_same = num_wrong // 2 if rows["relation"].nunique() > 1 else num_wrong  # labels are all of one relation
    return [
        ("wrong_same", num_same),
        ("wrong_other", num_wrong - num_same),
        ("contradiction", share_of(rates["contradictions"], len(rows))),
        ("duplicate", share_of(rates["duplicates"], len(rows))),
        ("empty", share_of(rates["empties"], len(rows))),
    ]


def _next_row(free: list[str], table: pd.DataFrame, targets: dict[str, list[str]], kind: str) -> dict[str, str] | None:
    """Take the next row that can carry this kind of noise; it is used up."""
    for position, row_id in enumerate(free):
        row = {str(column): str(value) for column, value in table.loc[row_id].items()}
        if kind in ("duplicate", "empty") or _candidates(row, targets, kind):
            del free[position]
            return row
    return None


def _candidates(row: dict[str, str], targets: dict[str, list[str]], kind: str) -> list[str]:
    """List the other targets of the same relation, or of the other relations."""
    same = targets[row["relation"]]
    if kind == "wrong_other":
        others = {target for relation, ones in targets.items() if relation != row["relation"] for target in ones}
        return sorted(others - set(same))
    return [target for target in same if target.casefold() != row["target"].casefold()]


def _noisy_target(row: dict[str, str], targets: dict[str, list[str]], kind: str, generator: random.Random) -> str:
    """Give the target that replaces the true one."""
    if kind == "duplicate":
        return row["target"]
    return "" if kind == "empty" else generator.choice(_candidates(row, targets, kind))
