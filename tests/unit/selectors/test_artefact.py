from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.common.files import read_json, write_json
from knowtune.selectors.artefact import Selected, open_selection, read_selection, write_choice
from knowtune.selectors.base import Choice
from knowtune.selectors.ird import Ird
from tests.unit.helpers import equal_states, fact_rows
from tests.unit.selectors.oracle import logistic

ROWS = fact_rows().head(3)
MASK = {"a.weight": torch.tensor([0, 3, 2**33]), "b": torch.tensor([], dtype=torch.int64)}
LAYERS = pd.DataFrame(
    {
        "parameter": ["a.weight", "NA"],
        "size": [2**34, 3],
        "kept": [3, 0],
        "mass": [0.1 + 0.2, 0.7],
        "kept_mass": [1e-9, 0.0],
        "protected": [7, 0],
    }
)
TRACE = [{"round": 1, "num_rows": 2, "num_parameters": 3, "mass_kept": 0.1, "parameter_overlap": None,
          "row_overlap": None, "dev_score": None}]  # fmt: skip
PROTECTED = {"share": 0.5, "mass": 0.9, "mass_touched": 0.01}
ADAPTER = {"method": "lora", "options": {"rank": 2}}


def choice(mask: dict[str, torch.Tensor] | None = None, score: float = 0.25) -> Choice:
    layers, protected = (None, None) if mask is None else (LAYERS, PROTECTED)
    return Choice(pd.Series([score, 2.0, -1.0]), pd.Series([True, False, True]), mask, TRACE, layers, protected)


def write(folder: Path, made: Choice, digest: str = "d" * 64, **options: Any) -> None:
    write_choice(folder, ROWS, made, base_digest=digest, strategy="fish", options={"samples": 2}, **options)


def test_a_choice_comes_back(base: Base, tmp_path: Path) -> None:
    write(tmp_path / "seed-0", choice(MASK), base.digest)
    for found in (open_selection(tmp_path / "seed-0"), read_selection(tmp_path, 0, base)):
        assert found.rows["score"].tolist() == [0.25, 2.0, -1.0]
        assert found.rows["chosen"].tolist() == [True, False, True]
        assert found.rows["id"].tolist() == ROWS["id"].tolist()
        assert found.mask is not None and equal_states(found.mask, MASK)
        assert found.trace == TRACE
        assert found.layers is not None
        pd.testing.assert_frame_equal(found.layers, LAYERS, check_exact=True)
        assert found.adapter is None
        assert found.card == {
            "adapter": None, "base_digest": base.digest, "mask": True, "options": {"samples": 2},
            "protected": PROTECTED, "strategy": "fish", "trace": TRACE,
        }  # fmt: skip


def test_what_a_selector_chose_comes_back(tmp_path: Path) -> None:
    pool, made = logistic(), Ird(num_parameters=9, samples=4)
    chosen = made.choose(pool, seed=0)
    options = made.model_dump(mode="json")
    write_choice(tmp_path, pool.rows, chosen, base_digest="d", strategy="ird", options=options)
    found = open_selection(tmp_path)
    assert found.rows["score"].tolist() == pytest.approx(chosen.scores.tolist(), rel=1e-14)  # 15 digits
    assert found.rows["chosen"].tolist() == chosen.chosen.tolist()
    assert found.mask is not None and chosen.mask is not None and equal_states(found.mask, chosen.mask)
    assert found.layers is not None and chosen.layers is not None
    assert found.layers.to_dict("list") == chosen.layers.to_dict("list")
    assert found.trace == chosen.trace
    assert Ird(**found.card["options"]) == made


def test_an_adapters_selection(tmp_path: Path) -> None:
    write(tmp_path, choice(MASK), adapter=ADAPTER)
    with pytest.raises(UserError) as caught:
        open_selection(tmp_path)
    message = f"{tmp_path / 'adapter'}: missing, the selection was made on it; run the select stage again"
    assert str(caught.value) == message
    (tmp_path / "adapter").mkdir()
    found: Selected = open_selection(tmp_path)
    assert found.adapter == tmp_path / "adapter"
    assert found.card["adapter"] == ADAPTER


def test_scores_that_are_whole_stay_numbers_with_a_point(base: Base, tmp_path: Path) -> None:
    write(tmp_path / "seed-0", choice(score=1.0), base.digest)
    assert read_selection(tmp_path, 0, base).rows["score"].dtype == float


def test_without_a_mask_there_is_no_file(base: Base, tmp_path: Path) -> None:
    write(tmp_path / "seed-0", choice(MASK), base.digest, picture="<svg/>")
    assert (tmp_path / "seed-0/selection.svg").read_text() == "<svg/>"
    write(tmp_path / "seed-0", choice(), base.digest)  # takes the place of the one with a mask
    assert sorted(p.name for p in (tmp_path / "seed-0").iterdir()) == ["rows.jsonl", "selection.json"]
    assert read_json(tmp_path / "seed-0" / "selection.json")["mask"] is False
    found = read_selection(tmp_path, 0, base)
    assert (found.mask, found.layers) == (None, None)


def test_writing_twice_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, choice(MASK), picture="<svg/>")
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("a", "b"))
    assert one == two
    assert len(one) == 5


def test_seeds_are_taken_in_turn_by_number(base: Base, tmp_path: Path) -> None:
    for seed in (10, 2, 0):
        write(tmp_path / f"seed-{seed}", choice(score=float(seed)), base.digest)
    scores = [read_selection(tmp_path, position, base).rows["score"].iloc[0] for position in range(5)]
    assert scores == [0.0, 2.0, 10.0, 0.0, 2.0]


def test_no_selection(base: Base, tmp_path: Path) -> None:
    for read in (lambda: read_selection(tmp_path, 0, base), lambda: open_selection(tmp_path)):
        with pytest.raises(UserError) as caught:
            read()
        assert str(caught.value) == f"{tmp_path}: no selection in it; run its select stage first"


@pytest.mark.parametrize(("mask", "adapter"), [(MASK, None), (None, ADAPTER), (MASK, ADAPTER)])
def test_what_was_made_on_another_base_is_refused(base: Base, tmp_path: Path, mask: Any, adapter: Any) -> None:
    write(tmp_path / "seed-0", choice(mask), "e" * 64, adapter=adapter)
    (tmp_path / "seed-0" / "adapter").mkdir()
    with pytest.raises(UserError, match=rf"^{tmp_path / 'seed-0'}: made on a base with digest eeeeeeeeeeee"):
        read_selection(tmp_path, 0, base)


def test_rows_alone_fit_every_base(base: Base, tmp_path: Path) -> None:
    write(tmp_path / "seed-0", choice(), "e" * 64)
    assert len(read_selection(tmp_path, 0, base).rows) == 3


@pytest.mark.parametrize("data", [b"", b"not safetensors", "cut", None])
def test_a_broken_mask(tmp_path: Path, data: Any) -> None:
    write(tmp_path, choice(MASK))
    path = tmp_path / "mask.safetensors"
    if data is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] if data == "cut" else data)
    with pytest.raises(UserError) as caught:
        open_selection(tmp_path)
    assert str(caught.value).startswith(f"{path}: not readable (")
    assert str(caught.value).endswith("); run the select stage again")


@pytest.mark.parametrize("name", ["rows.jsonl", "selection.json", "layers.csv"])
@pytest.mark.parametrize("data", [b"size\n{", b"\xff\xfe", b""])
def test_other_broken_files(tmp_path: Path, name: str, data: bytes) -> None:
    write(tmp_path, choice(MASK))
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=rf"^{tmp_path / name}: not readable \("):
        open_selection(tmp_path)


@pytest.mark.parametrize("card", [{}, [], {"base_digest": "d", "mask": False, "trace": []}])
def test_a_card_that_lacks_something(tmp_path: Path, card: Any) -> None:
    write(tmp_path, choice())
    write_json(tmp_path / "selection.json", card)
    with pytest.raises(UserError) as caught:
        open_selection(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'selection.json'}: not the card of a selection; "
        "allowed: adapter, base_digest, mask, options, protected, strategy, trace"
    )


def test_the_card_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    original = Path.replace

    def replace(path: Path, target: Path) -> Path:
        written.append(target.name)
        return original(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    write(tmp_path, choice(MASK))
    assert written[-1] == "selection.json"
    assert set(written) == {path.name for path in tmp_path.iterdir()}


def test_a_row_without_score_is_no_selection(tmp_path: Path) -> None:
    broken = Choice(pd.Series([float("nan"), 1.0, 2.0]), pd.Series([True] * 3), None, [])
    with pytest.raises(UserError, match="score: not_nullable fails 1 times"):
        write(tmp_path / "seed-0", broken)
