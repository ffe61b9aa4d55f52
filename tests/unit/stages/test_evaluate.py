from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.checkpoints.cards import MERGED
from knowtune.common.files import read_json, read_rows, write_json, write_rows
from stages import baseline, evaluate, report
from stages.core.params import load_params
from stages.core.schema import Params
from tests.unit.evaluation.test_interpolation import CURVE
from tests.unit.helpers import fact_rows

ROOT = Path(__file__).resolve().parents[3]
TEXTS = pd.DataFrame({"id": ["t1", "t2"], "text": ["Ada lives in Rome.", "The film was good."]})


def settings(metrics: list[str]) -> Params:
    raw = load_params(ROOT / "params.yaml").model_dump(by_alias=True, exclude_unset=True)
    raw["evaluate"]["metrics"] = metrics
    raw["mixtures"] = {"wise": {"from": ["lora"], "strategy": "interpolate", "options": {"alpha": [0.25, 1.0]}}}
    return Params(**raw).model_copy(update={"runs": {}})  # nothing was trained here


@pytest.fixture
def folder(base: Base, tmp_path: Path) -> Path:
    """A mixture of one seed, with the curve of its choice, and what it is evaluated on."""
    model, seed = base.model(), tmp_path / "wise" / "seed-0"
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(1.5)
    model.save_pretrained(seed)
    write_json(seed / MERGED, {"base_digest": base.digest})
    CURVE.to_csv(tmp_path / "wise" / "curve.csv", index=False)
    kinds = ["generalisation", "locality"] * 4
    write_rows(tmp_path / "test.jsonl", fact_rows().head(8).assign(kind=kinds))
    write_rows(tmp_path / "texts.jsonl", TEXTS)
    return tmp_path


def test_a_mixture_stands_beside_the_base_with_its_curve(base: Base, folder: Path) -> None:
    params = settings(["generalisation", "kl_to_base", "kl_to_base_prompts"])
    on = {"test": folder / "test.jsonl", "retention": folder / "texts.jsonl", "base": base.folder}
    baseline.run(argparse.Namespace(**on, out=folder / "baseline"), params)
    assert read_json(folder / "baseline/metrics.json")["kl_to_base"] == 0
    out = folder / "evaluated" / "mixtures" / "wise"
    places = {"merged": folder / "wise", "baseline": folder / "baseline", "out": out}
    evaluate.run(argparse.Namespace(name="wise", **on, **places), params)
    metrics = read_json(out / "metrics.json")
    assert metrics["curve"] == CURVE.to_dict("records")
    assert metrics["summary"]["kl_to_base"]["mean"] > 0
    assert {"kl", "num_tokens", "seed"} <= set(read_rows(out / "texts.jsonl"))
    (model,) = report._models(argparse.Namespace(evaluated=folder / "evaluated"), params)
    assert model.interpolation is not None
    assert model.interpolation[CURVE.columns].equals(CURVE)


def test_the_base_is_read_only_where_a_metric_asks_for_it(base: Base, folder: Path) -> None:
    params = settings(["generalisation"])
    on = {"test": folder / "test.jsonl", "retention": folder / "texts.jsonl", "base": base.folder}
    baseline.run(argparse.Namespace(**on, out=folder / "baseline"), params)
    places = {"merged": folder / "wise", "baseline": folder / "baseline", "out": folder / "out"}
    evaluate.run(argparse.Namespace(name="wise", **on, **places), params)
    assert "kl" not in read_rows(folder / "out" / "texts.jsonl")
    assert "prompt_kl" not in read_rows(folder / "out" / "examples.jsonl")
