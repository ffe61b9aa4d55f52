from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from knowtune.artefacts import read_json
from knowtune.base import Base
from knowtune.errors import UserError
from knowtune.families import Choice
from knowtune.selection import read_selection, write_choice

from .helpers import equal_states, fact_rows

ROWS = fact_rows().head(3)
MASK = {"a.weight": torch.tensor([0, 3, 2**33]), "b": torch.tensor([], dtype=torch.int64)}


def choice(mask: dict[str, torch.Tensor] | None = None, score: float = 0.25) -> Choice:
    return Choice(pd.Series([score, 2.0, -1.0]), pd.Series([True, False, True]), mask, [{"num_rows": 2}])


def test_a_choice_comes_back(base: Base, tmp_path: Path) -> None:
    write_choice(tmp_path / "seed-0", ROWS, choice(MASK), base.digest)
    found = read_selection(tmp_path, 0, base)
    assert found.rows["score"].tolist() == [0.25, 2.0, -1.0]
    assert found.rows["chosen"].tolist() == [True, False, True]
    assert found.rows["id"].tolist() == ROWS["id"].tolist()
    assert found.mask is not None
    assert equal_states(found.mask, MASK)
    assert found.trace == [{"num_rows": 2}]


def test_scores_that_are_whole_stay_numbers_with_a_point(base: Base, tmp_path: Path) -> None:
    write_choice(tmp_path / "seed-0", ROWS, choice(score=1.0), base.digest)
    assert read_selection(tmp_path, 0, base).rows["score"].dtype == float


def test_without_a_mask_there_is_no_file(base: Base, tmp_path: Path) -> None:
    write_choice(tmp_path / "seed-0", ROWS, choice(), base.digest)
    assert sorted(p.name for p in (tmp_path / "seed-0").iterdir()) == ["rows.jsonl", "selection.json"]
    assert read_json(tmp_path / "seed-0" / "selection.json") == {
        "base_digest": base.digest, "mask": False, "trace": [{"num_rows": 2}]
    }  # fmt: skip
    assert read_selection(tmp_path, 0, base).mask is None


def test_writing_twice_gives_equal_bytes(base: Base, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_choice(tmp_path / name, ROWS, choice(MASK), base.digest)
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("a", "b"))
    assert one == two


def test_seeds_are_taken_in_turn_by_number(base: Base, tmp_path: Path) -> None:
    for seed in (10, 2, 0):
        write_choice(tmp_path / f"seed-{seed}", ROWS, choice(score=float(seed)), base.digest)
    scores = [read_selection(tmp_path, position, base).rows["score"].iloc[0] for position in range(5)]
    assert scores == [0.0, 2.0, 10.0, 0.0, 2.0]


def test_no_selection(base: Base, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_selection(tmp_path, 0, base)
    assert str(caught.value) == f"{tmp_path}: no selection in it; run its select stage first"


def test_a_mask_of_another_base_is_refused(base: Base, tmp_path: Path) -> None:
    write_choice(tmp_path / "seed-0", ROWS, choice(MASK), "e" * 64)
    with pytest.raises(UserError, match=rf"^{tmp_path / 'seed-0'}: made on a base with digest eeeeeeeeeeee"):
        read_selection(tmp_path, 0, base)


@pytest.mark.parametrize("data", [b"", b"not safetensors", None])
def test_a_broken_mask(base: Base, tmp_path: Path, data: bytes | None) -> None:
    write_choice(tmp_path / "seed-0", ROWS, choice(MASK), base.digest)
    path = tmp_path / "seed-0" / "mask.safetensors"
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        read_selection(tmp_path, 0, base)
    assert str(caught.value).startswith(f"{path}: not readable (")
    assert str(caught.value).endswith("); run the select stage again")


def test_a_row_without_score_is_no_selection(base: Base, tmp_path: Path) -> None:
    broken = Choice(pd.Series([float("nan"), 1.0, 2.0]), pd.Series([True] * 3), None, [])
    with pytest.raises(UserError, match="score: not_nullable fails 1 times"):
        write_choice(tmp_path / "seed-0", ROWS, broken, base.digest)
