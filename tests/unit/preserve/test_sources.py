from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.common.files import write_rows
from knowtune.preserve.sources import (
    SOURCES,
    encode_rows_of,
    encode_texts,
    make_material,
    prompts_of,
    read_material,
    read_source,
    write_material,
)
from knowtune.text.encoded import Encoded, Labelled
from tests.unit.helpers import fact_rows, review_rows

TEXTS = pd.DataFrame({"id": ["text:0", "text:1"], "text": ["Ada lives in Rome and " * 9, "Bob"]})
WRITTEN = pd.DataFrame({"id": ["self:0", "self:1"], "input_ids": [[0, 9, 7, 4], [0, 5]], "text": ["ab", "c"]})


def tables() -> dict[str, pd.DataFrame]:
    rows = fact_rows()
    return {"known": rows, "text": TEXTS, "self": WRITTEN, "prompts": prompts_of(rows)}


def test_a_known_row_is_learned_as_training_learns_it(base: Base) -> None:
    rows = fact_rows()
    assert encode_rows_of(base, rows) == base.task.encode(base.tokenizer(), rows)


@pytest.mark.parametrize("source", ["text", "self", "prompts"])
def test_every_token_after_the_first_is_learned(base: Base, source: str) -> None:
    for row in make_material(base, {source: tables()[source]}, 12).sequences[source]:
        assert isinstance(row, Encoded)
        assert row.num_learned == len(row.input_ids) - 1
        assert row.labels[1:] == row.input_ids[1:]
        assert row.labels[0] == -100


def test_texts_end_where_they_are_cut_or_where_the_context_ends(base: Base) -> None:
    assert len(encode_texts(base, TEXTS["text"], 12)[0].input_ids) == 12
    assert max(len(row.input_ids) for row in encode_texts(base, TEXTS["text"] * 9, 4096)) == base.context


def test_prompts_are_read_without_their_targets(base: Base) -> None:
    rows = fact_rows()
    twice = pd.concat([rows, rows.assign(id="again:" + rows["id"], target="")], ignore_index=True)
    material = make_material(base, {"prompts": prompts_of(twice)}, 12)
    assert material.ids["prompts"] == rows["id"].tolist()
    written = base.tokenizer().batch_decode([row.input_ids[1:] for row in material.sequences["prompts"]])
    assert written == rows["prompt"].str.rstrip(" ").tolist()


def test_what_is_written_is_read_again(base: Base, tmp_path: Path) -> None:
    made = make_material(base, tables(), 12, tmp_path)
    write_material(tmp_path, tables(), 12, run="kept")
    assert read_material(tmp_path, base) == made
    only = read_material(tmp_path, base, ["self"])
    assert list(only.sequences) == ["self"]
    assert only.sequences["self"] == made.sequences["self"]


def test_a_source_that_was_not_written_is_named(base: Base, tmp_path: Path) -> None:
    write_material(tmp_path, {"self": WRITTEN}, 12)
    with pytest.raises(UserError, match="nothing of text in it; run the preserve stage again"):
        read_material(tmp_path, base, ["self", "text"])


@pytest.mark.parametrize("source", SOURCES)
def test_an_empty_source_is_refused(base: Base, tmp_path: Path, source: str) -> None:
    write_rows(tmp_path / "empty.jsonl", tables()[source].head(0))
    with pytest.raises(UserError, match=f"nothing to keep from '{source}'"):
        make_material(base, {source: read_source(source, tmp_path / "empty.jsonl")}, 12)


def test_a_sequence_of_one_token_is_left_out(base: Base) -> None:
    lone = pd.DataFrame({"id": ["self:2"], "input_ids": [[0]], "text": [""]})
    assert make_material(base, {"self": pd.concat([WRITTEN, lone])}, 12).ids["self"] == ["self:0", "self:1"]


def test_a_classifier_reads_rows_with_a_label_and_texts_without(encoder: Base) -> None:
    material = make_material(encoder, {"known": review_rows(), "text": TEXTS}, 12)
    assert all(isinstance(row, Labelled) for rows in material.sequences.values() for row in rows)
    assert {row.label for row in material.sequences["known"]} == {0.0, 1.0}
    assert all(math.isnan(row.label) and len(row.input_ids) <= 12 for row in material.sequences["text"])
