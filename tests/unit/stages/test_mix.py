from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.checkpoints.cards import MERGED
from knowtune.common.files import read_json, write_json, write_rows
from knowtune.merging.choose import read_curve
from knowtune.merging.fold import open_merged
from stages import mix as stage
from stages.core.params import load_params
from stages.core.schema import Params
from stages.tracking.numbers import read_numbers
from tests.unit.helpers import equal_states, fact_rows

ROOT = Path(__file__).resolve().parents[3]
Mix = Callable[..., Path]


@pytest.fixture
def mix(base: Base, tmp_path: Path) -> Mix:
    """Give a run of the stage on one run of two seeds: the first lost all that the base knew, the second nothing.

    Beside it is a run of one seed that lost nothing either.
    """
    for name, factor in (("lora/seed-0", -1.0), ("lora/seed-1", 1.0), ("full/seed-0", 1.0)):
        model, folder = base.model(), tmp_path / "merged" / name
        with torch.no_grad():
            model.get_output_embeddings().weight.mul_(factor)
        model.save_pretrained(folder)
        write_json(folder / MERGED, {"base_digest": base.digest})
    write_rows(tmp_path / "rows.jsonl", fact_rows())

    def go(preserve: dict[str, Any] | None = None, **options: Any) -> Path:
        raw = load_params(ROOT / "tests/data/params.yaml").model_dump(by_alias=True, exclude_unset=True)
        raw["runs"]["lora"] |= {"seeds": [0, 1], "preserve": preserve}
        raw["runs"]["full"] |= {"seeds": [0]}
        raw["mixtures"] = {"wise": {"from": ["lora"], **options}}
        places = {"validation": tmp_path / "rows.jsonl", "replay": tmp_path / "rows.jsonl", "base": base.folder}
        out = tmp_path / "out"
        stage.run(argparse.Namespace(name="wise", merged=tmp_path / "merged", out=out, **places), Params(**raw))
        return out

    return go


def test_each_seed_chooses_its_own_alpha(mix: Mix, base: Base, capsys: pytest.CaptureFixture[str]) -> None:
    out = mix(strategy="interpolate", options={"alpha": [0.25, 1.0], "max_forgotten": 0.2})
    assert sorted(path.name for path in out.iterdir()) == [
        "alpha.json", "curve.csv", "norms.json", "seed-0", "seed-1",
    ]  # fmt: skip
    curve = pd.DataFrame(read_curve(out))
    assert curve[["seed", "alpha"]].to_numpy().tolist() == [[0, 0.25], [0, 1], [1, 0.25], [1, 1]]
    assert curve["forgotten"].tolist() == [pytest.approx(0.1, abs=0.1), 1, 0, 0]
    assert curve.loc[curve["chosen"], ["seed", "alpha"]].to_numpy().tolist() == [[0, 0.25], [1, 0.25]]
    _, seeds = read_numbers({"data/mixed/wise": out})
    tracked = seeds["seed-0"].metrics
    assert tracked["alpha.chosen"] == 0.25
    assert tracked["alpha.forgotten.1.0"] == 1.0
    assert equal_states(open_merged(out / "seed-1", base).state_dict(), base.model().state_dict())
    output = capsys.readouterr()
    assert "mix wise, seed-1: chose alpha 0.25: it learned " in output.out
    assert "CAUTION" not in output.err


def test_it_is_loud_where_every_alpha_forgets_too_much(mix: Mix, capsys: pytest.CaptureFixture[str]) -> None:
    out = mix(strategy="interpolate", options={"alpha": [0.75, 1.0], "max_forgotten": 0.1})
    log = capsys.readouterr().err
    caution = "mix wise, seed-0: CAUTION: every alpha forgets more than max_forgotten, 10 %. Chose the one that forgets"
    assert caution in log
    assert "seed-1: CAUTION" not in log
    assert read_json(out / "alpha.json")["seed-0"]["forgotten"]["0.75"] > 0.1


@pytest.mark.parametrize(("strategy", "options"), [("interpolate", {"alpha": 0.5}), ("lines", {})])
def test_without_a_choice_there_is_no_curve(mix: Mix, strategy: str, options: dict[str, Any]) -> None:
    out = mix(strategy=strategy, options=options)
    assert sorted(path.name for path in out.iterdir()) == ["norms.json", "seed-0", "seed-1"]
    assert read_curve(out) is None


@pytest.mark.parametrize(("source", "warned"), [("known", True), ("self", False)])
def test_a_run_that_read_the_rows_of_the_choice_is_named(
    source: str, warned: bool, mix: Mix, capsys: pytest.CaptureFixture[str]
) -> None:
    mix(preserve={"distill": {"on": source}}, strategy="interpolate", options={"alpha": [0.25, 1.0]})
    caution = "mix wise: CAUTION: lora read in training the known rows that alpha is chosen on"
    assert (caution in capsys.readouterr().err) == warned


@pytest.mark.parametrize(
    ("options", "share", "sources"),
    [
        ({}, 0.0, ["lora/seed-0", "lora/seed-1"]),
        ({"from": ["lora", "full"], "weights": [1.0, 3.0]}, 0.75, ["lora/seed-0", "lora/seed-1", "full/seed-0"]),
    ],
)
def test_all_seeds_become_one_model_and_those_of_a_run_share_its_weight(
    options: dict[str, Any], share: float, sources: list[str], mix: Mix, base: Base
) -> None:
    out = mix(strategy="average", seeds="all", **options)
    assert sorted(path.name for path in out.iterdir()) == ["norms.json", "seed-0"]
    found = open_merged(out / "seed-0", base).get_output_embeddings().weight
    assert torch.allclose(found, share * base.model().get_output_embeddings().weight, atol=1e-6)
    assert set(read_json(out / "norms.json")["seed-0"]) == {*sources, "mixture"}


def test_an_alpha_is_chosen_of_all_seeds_together(mix: Mix) -> None:
    out = mix(strategy="interpolate", seeds="all", options={"alpha": [0.25, 0.75]})
    assert list(read_json(out / "alpha.json")) == ["seed-0"]
