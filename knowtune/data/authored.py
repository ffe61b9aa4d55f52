"""The authored facts: three files in one folder, and which template of a fact is for what.

`facts.csv` (relation, subject, target, split), `templates.csv` (relation, number, template with `{subject}`) and
`text.jsonl` (text, split). *Known* facts are what the embedded base is built from; *new* ones are there to be learned.

Templates rotate: known fact number i of its relation is never read by the base in template i mod K, and is tested in
it. A new fact is learned in the templates after that, and tested in others. So every template is common, and none gives
its fact away.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from knowtune.common.errors import UserError
from knowtune.common.files import read_rows
from knowtune.data.contract import ROW_COLUMNS

NEEDED = "facts.csv, templates.csv and text.jsonl"


@dataclass(frozen=True)
class Authored:
    """The authored data.

    Args:
        facts: relation, subject, target, split, and `number`: which fact of its relation it is.
        templates: relation -> templates.
        text: text, split ("train" for the base, "heldout" for retention).
    """

    facts: pd.DataFrame
    templates: dict[str, list[str]]
    text: pd.DataFrame

    def rows(self, split: str, offsets: range) -> pd.DataFrame:
        """Write each fact of a split in templates.

        Args:
            split: "known" or "new".
            offsets: which templates, counted from fact i's own, i mod K.

        Returns:
            Rows of the data contract; the id is `relation:subject:template`.
        """
        rows = []
        chosen = self.facts[self.facts["split"] == split]
        columns = (chosen[name].tolist() for name in ("relation", "subject", "target", "number"))
        for relation, subject, target, number in zip(*columns, strict=True):
            templates = self.templates[relation]
            for offset in offsets:
                template = (number + offset) % len(templates)
                key = f"{relation}:{subject}"
                prompt = templates[template].replace("{subject}", subject) + " "
                rows.append((f"{key}:{template}", key, relation, subject, str(template), prompt, target))
        named = ["id", "fact", "relation", "subject", "template", "prompt", "target"]
        return pd.DataFrame(rows, columns=named, dtype="str").reindex(columns=ROW_COLUMNS, fill_value="")


def read_authored(folder: Path, text: Path | None = None) -> Authored:
    """Read the authored files.

    Raises:
        UserError: a file or column is missing, a relation has no template, a template has no `{subject}`.
    """
    facts = _read_csv(folder / "facts.csv", ["relation", "subject", "target", "split"])
    table = _read_csv(folder / "templates.csv", ["relation", "number", "template"])
    bare = table[~table["template"].str.contains("{subject}", regex=False)]
    if len(bare):
        raise UserError(f"{folder / 'templates.csv'}: no {{subject}} in {bare['template'].iloc[0]!r}")
    templates = {str(name): group["template"].tolist() for name, group in table.groupby("relation", sort=False)}
    without = sorted(set(facts["relation"]) - set(templates))
    if without:
        raise UserError(f"{folder / 'templates.csv'}: no template for {', '.join(without)}")
    text = text or folder / "text.jsonl"
    if not text.is_file():
        raise UserError(f"{text}: no such file; `source.data` must hold {NEEDED}")
    general = read_rows(text)
    missing = [column for column in ("text", "split") if column not in general.columns]
    if missing:
        raise UserError(f"{text}: no column {', '.join(missing)}; it has {', '.join(general.columns)}")
    return Authored(facts.assign(number=facts.groupby("relation").cumcount()), templates, general)


def _read_csv(path: Path, columns: list[str]) -> pd.DataFrame:
    """Read a CSV whose cells are all text ("NA" is sodium, not a missing value)."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; `source.data` must hold {NEEDED}")
    table = pd.read_csv(path, dtype="str", keep_default_na=False)
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise UserError(f"{path}: no column {', '.join(missing)}; it has {', '.join(table.columns)}")
    return table[columns]
