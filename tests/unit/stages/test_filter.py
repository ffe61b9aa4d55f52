from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from knowtune.common import files as artefacts
from knowtune.common.errors import UserError
from knowtune.common.files import read_json, read_rows, write_rows
from stages import filter as stage
from stages.core.params import load_params
from tests.unit.helpers import answers_for, fact_rows, row, seen_of, table

ROOT = Path(__file__).resolve().parents[3]


def run(folder: Path, rows: pd.DataFrame, chosen: dict[str, Any], distances: Any = None, sketches: Any = None) -> Path:
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    params["filters"]["tried"] = chosen
    params["answers"]["sketch"] = {"dimensions": 16, "batch_size": 4, "seed": 0}
    YAML(typ="safe").dump(params, folder / "params.yaml")
    write_rows(folder / "train.jsonl", rows)
    write_rows(folder / "answers/answers.jsonl", answers_for(rows, distances))
    if sketches is not None:
        np.save(folder / "answers/sketches.npy", sketches)
    out = folder / "out"
    args = argparse.Namespace(name="tried", train=folder / "train.jsonl", answers=folder / "answers", out=out)
    stage.run(args, load_params(folder / "params.yaml"))
    return out


@pytest.fixture(params=[2**24, 700], ids=["one chunk", "many chunks"], autouse=True)
def _chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artefacts, "BLOCK", request.param)


def test_every_row_is_kept_or_dropped_in_its_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = pd.concat([fact_rows(), table(row("01", "p", ""), row("02", "a “quoted” prompt\n", "ü", "town"))])
    rows = rows.reset_index(drop=True)
    distances = [i / 20 for i in range(len(rows))]
    chosen = {"strategy": ["clean", "nearest"], "options": {"nearest": {"keep": 0.5}}}
    out = run(tmp_path, rows, {**chosen, "stratify": "relation", "allow_lost": True}, distances)
    assert sorted(path.name for path in out.iterdir()) == ["dropped.jsonl", "kept.jsonl", "summary.json"]
    kept, dropped = read_rows(out / "kept.jsonl"), read_rows(out / "dropped.jsonl")
    assert (len(kept), len(dropped)) == (13, 13)
    whole = rows.assign(distance=distances).set_index("id")
    for table_, columns in ((kept, kept.columns), (dropped, dropped.columns[:-2])):
        assert table_["id"].tolist() == [row_id for row_id in rows["id"] if row_id in set(table_["id"])]
        found = table_[columns].set_index("id")
        pd.testing.assert_frame_equal(found, whole.loc[found.index], check_dtype=False)
    assert dropped["strategy"].value_counts().to_dict() == {"nearest": 12, "clean": 1}
    assert read_json(out / "summary.json")["rows"] == {
        "read": 26, "kept": 13, "dropped": {"1. clean": 1, "2. nearest": 12}
    }  # fmt: skip
    assert capsys.readouterr().out == "filter tried: 26 read, 13 kept, 13 dropped\n"


def test_sketches_are_read_where_a_filter_compares_them(tmp_path: Path) -> None:
    rows = fact_rows()
    chosen = {"strategy": ["interference"], "options": {"interference": {"keep": 0.75}}}
    out = run(tmp_path, rows, chosen, sketches=seen_of(rows).sketches)
    assert len(read_rows(out / "dropped.jsonl")) == 6
    assert read_json(out / "summary.json")["interference"]["groups"] == ["colour", "town"]
    told = read_rows(out / "cosines.jsonl").set_index("id")["cosine"]
    assert told.index.tolist() == rows["id"].tolist()
    assert told[read_rows(out / "dropped.jsonl")["id"]].max() <= told[read_rows(out / "kept.jsonl")["id"]].min()
    (tmp_path / "answers/sketches.npy").unlink()
    with pytest.raises(UserError, match=r"filter tried: interference needs sketches .* set `answers.sketch`"):
        run(tmp_path, rows, chosen)


def test_a_task_without_distances(tmp_path: Path) -> None:
    rows = fact_rows()
    out = run(tmp_path, rows, {"strategy": ["everything"]}, [float("nan")] * len(rows))
    first = json.loads((out / "kept.jsonl").read_text().splitlines()[0])
    assert first["distance"] is None
    assert (out / "dropped.jsonl").read_bytes() == b""
    with pytest.raises(UserError, match="filter tried: band needs distances, and 24 of 24 answers have none"):
        run(tmp_path, rows, {"strategy": ["band"]}, [float("nan")] * len(rows))


def test_a_refused_filter_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="distances of all 24 rows are equal"):
        run(tmp_path, fact_rows(), {"strategy": ["nearest"]})
    assert not (tmp_path / "out").exists()


def test_broken_rows_are_refused_with_the_file(tmp_path: Path) -> None:
    rows = fact_rows()
    with pytest.raises(UserError, match=r"train.jsonl: not valid training rows\n  id: field_uniqueness fails 2 times"):
        run(tmp_path, pd.concat([rows, rows[:1]]), {"strategy": ["everything"]})
