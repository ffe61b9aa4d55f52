"""The authored facts: three files in one folder, and which wording of a fact is for what.

`facts.csv` (relation, subject, target, split), `wordings.csv` (relation, wording, template with `{subject}`) and
`text.jsonl` (text, split). *Known* facts are what the embedded base is built from; *new* ones are there to be
learned.

Wordings rotate: known fact number i of its relation is never read by the base under wording i mod K, and is tested
under it. A new fact is learned under the wordings after that, tested under others. So every wording is common, and
no wording gives its fact away.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from knowtune.common.errors import UserError
from knowtune.common.files import read_rows
from knowtune.data.contract import ROW_COLUMNS

NEEDED = "facts.csv, wordings.csv and text.jsonl"


@dataclass(frozen=True)
class Authored:
    """The authored data.

    Args:
        facts: relation, subject, target, split, and `number`: the fact's place within its relation.
        wordings: relation -> templates.
        text: text, split ("train" for the base, "heldout" for retention).
    """

    facts: pd.DataFrame
    wordings: dict[str, list[str]]
    text: pd.DataFrame

    def rows(self, split: str, offsets: range) -> pd.DataFrame:
        """Word each fact of a split.

        Args:
            split: "known" or "new".
            offsets: which wordings, counted from fact i's own wording i mod K.

        Returns:
            Rows of the data contract; the id is `relation:subject:wording`.
        """
        rows = []
        chosen = self.facts[self.facts["split"] == split]
        columns = (chosen[name].tolist() for name in ("relation", "subject", "target", "number"))
        for relation, subject, target, number in zip(*columns, strict=True):
            templates = self.wordings[relation]
            for offset in offsets:
                wording = (number + offset) % len(templates)
                key = f"{relation}:{subject}"
                prompt = templates[wording].replace("{subject}", subject) + " "
                rows.append((f"{key}:{wording}", key, relation, subject, str(wording), prompt, target))
        named = ["id", "fact", "relation", "subject", "wording", "prompt", "target"]
        return pd.DataFrame(rows, columns=named, dtype="str").reindex(columns=ROW_COLUMNS, fill_value="")


def read_authored(folder: Path, text: Path | None = None) -> Authored:
    """Read the authored files.

    Raises:
        UserError: a file or column is missing, a relation has no wording, a template has no `{subject}`.
    """
    facts = _read_csv(folder / "facts.csv", ["relation", "subject", "target", "split"])
    wordings = _read_csv(folder / "wordings.csv", ["relation", "wording", "template"])
    bare = wordings[~wordings["template"].str.contains("{subject}", regex=False)]
    if len(bare):
        raise UserError(f"{folder / 'wordings.csv'}: no {{subject}} in {bare['template'].iloc[0]!r}")
    templates = {str(name): group["template"].tolist() for name, group in wordings.groupby("relation", sort=False)}
    without = sorted(set(facts["relation"]) - set(templates))
    if without:
        raise UserError(f"{folder / 'wordings.csv'}: no wording for {', '.join(without)}")
    text = text or folder / "text.jsonl"
    if not text.is_file():
        raise UserError(f"{text}: no such file; `source.data` must hold {NEEDED}")
    prose = read_rows(text)
    missing = [column for column in ("text", "split") if column not in prose.columns]
    if missing:
        raise UserError(f"{text}: no column {', '.join(missing)}; it has {', '.join(prose.columns)}")
    return Authored(facts.assign(number=facts.groupby("relation").cumcount()), templates, prose)


def _read_csv(path: Path, columns: list[str]) -> pd.DataFrame:
    """Read a CSV whose cells are all text ("NA" is sodium, not a missing value)."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; `source.data` must hold {NEEDED}")
    table = pd.read_csv(path, dtype="str", keep_default_na=False)
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise UserError(f"{path}: no column {', '.join(missing)}; it has {', '.join(table.columns)}")
    return table[columns]
