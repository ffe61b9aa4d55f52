"""The data contract: what every table of rows between stages must look like. The only module that knows pandera.

A *fact* is a subject, a relation and a target; a *row* is one paraphrase of a fact, by a template of its relation: the
model reads prompt + target, character by character. `aliases` are further right answers, one a line. For a classifier,
`prompt` is the text, `text_pair` the second text or "", and `target` the label's name or the score. `layout` is "" for
a plain row, else what a chat template or a prompt template adds, see `knowtune.text.layout`. `old` are the answers that
the target replaces, one a line, or "". Row ids never change downstream. A row that a filter has seen carries
`distance`: how far the pristine base's own answer is from the target in meaning.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pandera.pandas as pa

from knowtune.common.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

_described = ["id", "fact", "relation", "subject", "template"]
ROW_COLUMNS = [*_described, "prompt", "text_pair", "target", "aliases", "layout", "old"]
ROLES = ("train", "validation", "test", "known", "replay")  # what a row of a source is for
EXAMPLE_KINDS = ("reliability", "generalisation", "locality")

_text = pa.Column(str, nullable=False)
_filled = pa.Column(str, pa.Check.str_length(min_value=1), nullable=False)
_distance = pa.Column(float, pa.Check.in_range(0, 2), nullable=True, coerce=True)  # NaN where the task has none
_row = {
    "id": pa.Column(str, pa.Check.str_length(min_value=1), unique=True, nullable=False),
    "fact": _filled,
    "relation": _text,
    "subject": _text,
    "template": _text,
    "prompt": _filled,
    "text_pair": _text,
    "target": _text,  # may be empty: injected noise passes the schema and is the filters' business
    "aliases": _text,
    "layout": _text,
    "old": _text,
}
ROWS = pa.DataFrameSchema(_row, strict=True, ordered=True, name="training rows")
EXAMPLES = pa.DataFrameSchema(
    {**_row, "target": _filled, "kind": pa.Column(str, pa.Check.isin(EXAMPLE_KINDS))},
    strict=True,
    ordered=True,
    name="evaluation examples",
)
TEXTS = pa.DataFrameSchema({"id": _row["id"], "text": _filled}, strict=True, ordered=True, name="retention texts")
REJECTED = pa.DataFrameSchema(
    {**_row, "id": _filled, "prompt": _text, "fact": _text, "reason": _filled}, strict=True, name="rejected rows"
)
ANSWERS = pa.DataFrameSchema(
    {
        "id": _row["id"],
        "answer": _text,
        "correct": pa.Column(bool),
        "num_tokens": pa.Column(int, pa.Check.gt(0)),
        "distance": _distance,
    },
    strict=True,
    name="the base's answers",
)
_kept = {**_row, "distance": _distance}
KEPT = pa.DataFrameSchema(_kept, strict=True, ordered=True, name="kept rows")
DROPPED = pa.DataFrameSchema({**_kept, "strategy": _filled, "reason": _filled}, strict=True, name="dropped rows")
SELECTED = pa.DataFrameSchema(
    {
        **_row,
        "distance": pa.Column(float, pa.Check.in_range(0, 2), nullable=True, coerce=True, required=False),
        "score": pa.Column(float),
        "chosen": pa.Column(bool),
    },
    strict=True,
    name="selected rows",
)


def check(rows: pd.DataFrame, schema: pa.DataFrameSchema, where: str) -> pd.DataFrame:
    """Check a table against its schema; an empty table with the right columns passes.

    Raises:
        UserError: names the table, then per column and check the number of failures and up to five examples.
    """
    if rows.empty and set(schema.columns) <= set(rows.columns):
        return rows
    try:
        return schema.validate(rows, lazy=True)
    except pa.errors.SchemaErrors as error:
        lines = [f"{where}: not valid {schema.name}"]
        cases = error.failure_cases
        for (column, rule), group in cases.groupby(["column", "check"], dropna=False, sort=True):
            examples = ", ".join(
                f"row {index}: {value!r}"
                for index, value in zip(group["index"].head(5), group["failure_case"].head(5), strict=True)
            )
            lines.append(f"  {column}: {rule} fails {len(group)} times ({examples})")
        raise UserError("\n".join(lines)) from None


def column_types(schema: pa.DataFrameSchema, columns: Iterable[str] | None = None) -> dict[str, str]:
    """Give the types of columns in plain words: string, bool, int64, float64.

    Args:
        schema: of a table.
        columns: of it; None for all.
    """
    return {name: str(schema.columns[name].dtype).partition("[")[0] for name in columns or schema.columns}
