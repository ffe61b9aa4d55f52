"""What says what the base knew, as tokens: rows, general texts, sequences that it wrote, prompts.

The stage `preserve` writes a table for each source that a run reads:

    known.jsonl    rows of the data contract                         the target and its end are learned
    text.jsonl     id, text                                          each token after the first, up to `max_text_tokens`
    self.jsonl     id, input_ids, text                               each token after the first
    prompts.jsonl  id, prompt, layout                                each token after the first
    card.json      sources: how many of each; max_text_tokens

Of a classifier a row is a text with its label, and a general text one without. Rows that the base has right and its own
sequences come from the stage `rehearse`, general texts and prompts from `prepare`; a selection reads them there itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.common.errors import UserError
from knowtune.common.files import read_card, read_rows, write_json, write_rows
from knowtune.data.contract import ROW_COLUMNS, ROWS, TEXTS, check
from knowtune.text.encode_rows import encode_prompts
from knowtune.text.encoded import Encoded, Labelled

if TYPE_CHECKING:
    import pandas as pd

    from knowtune.checkpoints.base import Base

CARD = "card.json"
KNOWN, SEQUENCES = "known.jsonl", "sequences.jsonl"  # what the stage `rehearse` writes
SOURCES = ("known", "text", "self", "prompts")
Sequences = Sequence[Encoded | Labelled]
Tables = dict[str, "pd.DataFrame"]


@dataclass(frozen=True)
class Material:
    """What a run or a selection keeps of its base.

    Args:
        sequences: source -> its sequences, at least one.
        ids: source -> theirs.
        folder: where the stage `preserve` wrote it, with what else it made of it; None where no stage did.
    """

    sequences: Mapping[str, Sequences]
    ids: Mapping[str, Sequence[str]]
    folder: Path | None = None

    def draw(self, source: str, samples: int | None, seed: int, where: str) -> list[int]:
        """Choose sequences of a source at random: their positions, in order.

        Args:
            source: its name.
            samples: how many; None for all.
            seed: of the choice.
            where: the key of `samples`, for messages.

        Raises:
            UserError: there are fewer.
        """
        import numpy as np

        count = len(self.sequences[source])
        if samples is None:
            return list(range(count))
        if samples > count:
            got = f"got {samples}, but {source!r} has only {count} sequences"
            raise UserError(f"{where}: {got}; allowed: up to that")
        return sorted(np.random.default_rng(seed).choice(count, samples, replace=False).tolist())


def encode_rows_of(base: Base, rows: pd.DataFrame) -> Sequences:
    """Encode rows of the data contract as training reads them."""
    return base.task.encode(base.tokenizer(), rows)


def encode_texts(base: Base, texts: Sequence[str], max_tokens: int) -> Sequences:
    """Encode general texts, cut at `max_tokens` or at the base's context."""
    return base.task.encode_texts(base.tokenizer(), texts, min(max_tokens, base.context))


def encode_sequences(table: pd.DataFrame) -> Sequences:
    """Take the tokens that the base wrote, with those that it went on from  # input_ids: list of token ids."""
    return [Encoded.running([int(token) for token in ids]) for ids in table["input_ids"]]


def encode_questions(base: Base, table: pd.DataFrame) -> Sequences:
    """Encode prompts, without their targets (prompt, layout)."""
    ids = encode_prompts(base.tokenizer(), table["prompt"].tolist(), table["layout"].tolist())
    return [Encoded.running(row) for row in ids]


def prompts_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Give the prompts of rows, each once, under the id of the first row that has it."""
    return rows[["id", "prompt", "layout"]].drop_duplicates(["prompt", "layout"]).reset_index(drop=True)


def make_material(
    base: Base, tables: Mapping[str, pd.DataFrame], max_text_tokens: int, folder: Path | None = None
) -> Material:
    """Encode the tables of some sources; a sequence without a token to learn from or to compare is left out.

    Args:
        base: whose tokenizer, context and task decide.
        tables: source -> its table, see above.
        max_text_tokens: where general texts are cut.
        folder: where the tables lie.

    Raises:
        UserError: a source has nothing.
    """
    sequences: dict[str, Sequences] = {}
    ids: dict[str, Sequence[str]] = {}
    for source, table in tables.items():
        encoded = _encode(base, source, table, max_text_tokens)
        usable = [not isinstance(row, Encoded) or row.num_learned > 0 for row in encoded]
        if not any(usable):
            raise UserError(f"preserve: nothing to keep from {source!r}: {WAYS_OUT[source]}")
        sequences[source] = [row for row, use in zip(encoded, usable, strict=True) if use]
        ids[source] = [str(row_id) for row_id, use in zip(table["id"], usable, strict=True) if use]
    return Material(sequences, ids, folder)


def _encode(base: Base, source: str, table: pd.DataFrame, max_text_tokens: int) -> Sequences:
    """Encode the table of a source."""
    if table.empty:
        return []
    if source == "known":
        return encode_rows_of(base, table)
    if source == "text":
        return encode_texts(base, table["text"].tolist(), max_text_tokens)
    return encode_sequences(table) if source == "self" else encode_questions(base, table)


def write_material(folder: Path, tables: Mapping[str, pd.DataFrame], max_text_tokens: int, **card: Any) -> None:
    """Write what a run keeps of its base, for `read_material`.

    Args:
        folder: of the stage `preserve`.
        tables: source -> its table, see above.
        max_text_tokens: where general texts are cut.
        card: what else the card says.
    """
    for source, table in tables.items():
        write_rows(folder / f"{source}.jsonl", table)
    counts = {source: len(table) for source, table in tables.items()}
    write_json(folder / CARD, {"sources": counts, "max_text_tokens": max_text_tokens, **card})


def read_material(folder: Path, base: Base, names: Collection[str] | None = None) -> Material:
    """Read what the stage `preserve` wrote.

    Args:
        folder: the stage's out of one run.
        base: the pristine base.
        names: the sources that are read; None for all that were written.

    Raises:
        UserError: a source was not written, or has nothing.
    """
    card = read_card(folder / CARD, {"sources": dict, "max_text_tokens": int}, "preserve")
    wanted = sorted(card["sources"] if names is None else names)
    missing = [name for name in wanted if name not in card["sources"]]
    if missing:
        raise UserError(f"{folder}: nothing of {', '.join(missing)} in it; run the preserve stage again")
    tables = {name: read_source(name, folder / f"{name}.jsonl") for name in wanted}
    return make_material(base, tables, card["max_text_tokens"], folder)


def read_sources(names: Collection[str], rehearsed: Path, texts: Path, train: Path | None = None) -> Tables:
    """Read the tables of some sources where the pipeline first writes them.

    Args:
        names: of known, text, self, prompts.
        rehearsed: folder of the stage `rehearse`.
        texts: general texts that may be replayed.
        train: training rows, for prompts.
    """
    paths = {"known": rehearsed / KNOWN, "self": rehearsed / SEQUENCES, "text": texts}
    tables = {name: read_source(name, paths[name]) for name in sorted(names) if name in paths}
    if "prompts" in names:
        assert train is not None
        tables["prompts"] = prompts_of(check(read_rows(train, ROW_COLUMNS), ROWS, str(train)))
    return tables


def read_source(name: str, path: Path) -> pd.DataFrame:
    """Read the table of a source from a file."""
    columns = {"known": ROW_COLUMNS, "text": ["id", "text"], "self": ["id", "input_ids", "text"]}
    table = read_rows(path, columns.get(name, ["id", "prompt", "layout"]))
    schemas = {"known": ROWS, "text": TEXTS}
    return check(table, schemas[name], str(path)) if name in schemas else table


WAYS_OUT = {
    "known": "no row that the base has right may be replayed; raise prepare.replay.known or give source.files.replay",
    "text": "no general text may be replayed; raise prepare.replay.text or give source.replay_text",
    "self": "the base wrote no sequence; set `rehearse`",
    "prompts": "no training row has a prompt of two tokens",
}
