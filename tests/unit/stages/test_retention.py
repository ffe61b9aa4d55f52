from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from cli.compare import compare_models
from knowtune.checkpoints.base import Base
from knowtune.checkpoints.cards import MERGED
from knowtune.common.errors import UserError
from knowtune.common.files import read_json, read_rows, write_json, write_rows
from stages import baseline, evaluate, report, retention
from stages.core.params import load_params, write_yaml
from stages.core.schema import Params
from tests.unit.helpers import fact_rows

ROOT = Path(__file__).resolve().parents[3]
TEXTS = pd.DataFrame({"id": ["t1", "t2"], "text": ["Ada lives in Rome.", "The film was good."]})
SETS: dict[str, Any] = {
    "hats": {"kind": "facts", "path": "hats.jsonl", "columns": {"id": "id", "prompt": "prompt", "target": "target"}},
    "stories": {"kind": "text", "path": "stories.jsonl", "column": "text", "max_rows": 3},
}


def settings(sets: dict[str, Any] = SETS) -> Params:
    raw = load_params(ROOT / "params.yaml").model_dump(by_alias=True, exclude_unset=True)
    raw["evaluate"] |= {"metrics": ["generalisation"], "batch_size": 8, "retention": sets}
    raw["mixtures"] = {"wise": {"from": ["lora"], "strategy": "interpolate", "options": {"alpha": 0.5}}}
    return Params(**raw).model_copy(update={"runs": {}})  # nothing was trained here


@pytest.fixture
def folder(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a mixture of two seeds, and files of two sets."""
    monkeypatch.chdir(tmp_path)
    for seed, scale in ((0, 1.5), (1, 3.0)):
        model, at = base.model(), tmp_path / f"data/mixed/wise/seed-{seed}"
        with torch.no_grad():
            model.get_output_embeddings().weight.mul_(scale)
        model.save_pretrained(at)
        write_json(at / MERGED, {"base_digest": base.digest})
    rows = fact_rows()
    kinds = ["generalisation", "locality"] * 4
    write_rows(tmp_path / "data/prepared/test.jsonl", rows.head(8).assign(kind=kinds))
    write_rows(tmp_path / "data/prepared/retention.jsonl", TEXTS)
    write_rows(tmp_path / "data/prepared/train.jsonl", rows[rows["relation"] == "town"])
    for name in ("replay", "replay_texts"):
        (tmp_path / f"data/prepared/{name}.jsonl").touch()
    (tmp_path / "data/rehearsed").mkdir()
    (tmp_path / "data/rehearsed/sequences.jsonl").touch()
    hats = rows[rows["relation"] == "colour"][["id", "prompt", "target"]]
    write_rows(tmp_path / "hats.jsonl", hats)
    write_rows(tmp_path / "stories.jsonl", pd.DataFrame({"text": [f"Ada lives in Rome {'x ' * i}" for i in range(5)]}))
    return tmp_path


def run_retention(base: Base, name: str, params: Params) -> Path:
    out, prepared = Path("data/baseline/retention") / name, Path("data/prepared")
    inputs = {key: prepared / f"{file}.jsonl" for key, file in
              (("train", "train"), ("replay", "replay"), ("texts", "replay_texts"))}  # fmt: skip
    path = Path(params.evaluate.retention[name].path)
    inputs["rehearsed"] = Path("data/rehearsed")
    retention.run(argparse.Namespace(name=name, path=path, base=base.folder, out=out, **inputs), params)
    return out


def run_all(base: Base, params: Params) -> None:
    on = {"test": Path("data/prepared/test.jsonl"), "retention": Path("data/prepared/retention.jsonl")}
    on["base"] = base.folder
    baseline.run(argparse.Namespace(**on, out=Path("data/baseline")), params)
    for name in params.evaluate.retention:
        run_retention(base, name, params)
    places = {"merged": Path("data/mixed/wise"), "baseline": Path("data/baseline")}
    evaluate.run(argparse.Namespace(name="wise", **on, **places, out=Path("data/evaluated/mixtures/wise")), params)


def test_the_base_is_measured_twice_row_by_row(base: Base, folder: Path) -> None:
    out = run_retention(base, "hats", settings())
    rows, found, metrics = (
        read_rows(out / "rows.jsonl"),
        read_rows(out / "examples.jsonl"),
        read_json(out / "metrics.json"),
    )
    assert found["id"].tolist() == rows["id"].tolist()
    assert {"correct", "loss", "again_correct", "again_loss"} <= set(found)
    assert metrics["right"] == found["correct"].sum() > 0
    assert metrics["noise"] == (found["correct"] != found["again_correct"]).mean()
    assert (out / "rejected.jsonl").read_text() == ""
    assert len(read_rows(run_retention(base, "stories", settings()) / "examples.jsonl")) == 3


def test_rows_that_are_trained_now_stop_it_and_other_rows_cost_nothing(
    base: Base, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run_retention(base, "hats", settings())
    before = (out / "examples.jsonl").read_bytes()
    capsys.readouterr()
    train = Path("data/prepared/train.jsonl")
    write_rows(train, read_rows(train).head(3))
    run_retention(base, "hats", settings())
    assert "retention hats: measured already" in capsys.readouterr().err
    assert (out / "examples.jsonl").read_bytes() == before
    write_rows(Path("data/prepared/replay.jsonl"), fact_rows().head(2))
    with pytest.raises(
        UserError, match=r"evaluate.retention.hats: hats.jsonl: .*\n  1 of \d+ rows may be replayed too"
    ):
        run_retention(base, "hats", settings())


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("prepared/replay_texts", "1 of 2 texts that may be replayed quote rows, e.g. 't:1' row 'colour:Dan:0'"),
        (
            "rehearsed/sequences",
            r"1 of 2 sequences that the base wrote \(another rehearse.seed .*'t:1' row 'colour:Dan:0'",
        ),
    ],
)
def test_rows_that_are_quoted_stop_it(base: Base, folder: Path, file: str, named: str) -> None:
    asked = read_rows(folder / "hats.jsonl").iloc[3]
    texts = ["She has a hat.", f"Look, {asked['prompt'].lower()} {asked['target']}!"]
    write_rows(folder / f"data/{file}.jsonl", pd.DataFrame({"id": ["t:0", "t:1"], "text": texts}))
    with pytest.raises(UserError, match=f"(?s)evaluate.retention.hats: hats.jsonl: .*\n  {named}$"):
        run_retention(base, "hats", settings())


def test_every_model_is_measured_and_an_added_set_costs_that_set_alone(base: Base, folder: Path) -> None:
    def measured() -> dict[str, int]:
        return {f"{p.parts[-3]} {p.stem}": p.stat().st_mtime_ns for p in Path(".work/evaluate/wise").rglob("seed-*")}

    run_all(base, settings({"hats": SETS["hats"]}))
    before = measured()
    assert set(before) == {"hats seed-0", "hats seed-1"}
    run_all(base, settings())
    after = measured()
    assert before.items() <= after.items()
    assert set(after) - set(before) == {"stories seed-0", "stories seed-1"}
    out = Path("data/evaluated/mixtures/wise")
    found = read_rows(out / "retention/hats.jsonl")
    assert {"id", "seed", "correct", "base_correct", "loss", "base_loss"} <= set(found)
    metrics = read_json(out / "metrics.json")
    change = found.groupby("seed").apply(lambda rows: rows["correct"].mean() - rows["base_correct"].mean())
    assert {seed: values["hats"] for seed, values in metrics["seeds"].items()} == pytest.approx(
        {str(seed): value for seed, value in change.items()}
    )
    assert set(metrics["retention"]["hats"]) == {"change", "lost", "gained"}
    assert set(metrics["retention"]["stories"]) == {"change"}
    assert set(metrics["summary"]) == {"generalisation", "hats", "stories"}


def test_the_report_has_a_column_of_each(base: Base, folder: Path) -> None:
    params = settings()
    run_all(base, params)
    (model,) = report._models(argparse.Namespace(evaluated=folder / "data/evaluated"), params)
    assert set(model.entry.summary) > set(SETS)
    assert set(model.retained) == set(SETS)
    of_base = report._baseline(folder / "data/baseline", params)
    assert of_base.sets["stories"]["num"] == 3


class TestCompare:
    def compare(self, folder: Path, a: str, b: str, *wanted: str, limit: int = 3, as_json: bool = False) -> int:
        return compare_models(folder, a, b, wanted, limit, as_json=as_json)

    @pytest.fixture
    def project(self, base: Base, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        run_all(base, settings())
        monkeypatch.setattr("stages.core.params.load_params", lambda _: settings())
        return folder

    def test_of_the_base_and_a_mixture(self, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
        capsys.readouterr()
        assert self.compare(project, "base", "wise", as_json=True) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["a"], found["b"], found["seeds"]) == ("base", "wise", [[], [0, 1]])
        assert list(found["parts"]) == ["generalisation", "known", "texts", "hats", "stories"]
        hats = found["parts"]["hats"]
        change = read_json(project / "data/evaluated/mixtures/wise/metrics.json")["summary"]["hats"]["mean"]
        assert hats["difference"] == pytest.approx(change)
        assert hats["noise"] == 0.0
        assert all(0 <= part["noise"] < 1e-3 for part in found["parts"].values())
        assert hats["interval"][0] <= hats["difference"] <= hats["interval"][1]
        assert hats["lost"] + hats["gained"] == len(hats["flips"])
        assert all(flip["prompt"].startswith("The hat of") for flip in hats["flips"])
        assert "p" not in found["parts"]["stories"]

    def test_as_a_table(self, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
        capsys.readouterr()
        self.compare(project, "wise", "base", "hats", limit=1)
        said = capsys.readouterr().out
        assert "base against wise" in said
        assert "seeds: wise 0, 1, base (one model)." in said
        assert "stories" not in said
        self.compare(project, "base", "wise")
        (texts,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│ texts")]
        assert texts.count("–") == 4  # of a test on verdicts

    def test_a_baseline_of_an_older_version_is_named(self, project: Path) -> None:
        write_json(project / "data/baseline/notes.json", {"known": None, "cautions": []})
        with pytest.raises(UserError, match=r"baseline/notes.json: says nothing of noise.*`make run` measures it"):
            self.compare(project, "base", "wise")

    def test_what_cannot_be_compared_is_refused(self, project: Path) -> None:
        for a, b, wanted, message in (
            ("base", "wize", (), r"no run or mixture is called 'wize'; known: base, wise; did you mean 'wise'\?"),
            ("base", "base", (), "A and B: got 'base' twice; give two models"),
            ("base", "wise", ("hat",), "no part or set is called 'hat'; known: generalisation, hats, known"),
        ):
            with pytest.raises(UserError, match=message):
                self.compare(project, a, b, *wanted)
        rows = project / "data/evaluated/mixtures/wise/retention/hats.jsonl"
        found = read_rows(rows)
        write_rows(rows, found[found["id"] != found["id"][0]])
        with pytest.raises(UserError, match=r"hats: base and wise were measured on other examples \(1 of base alone"):
            self.compare(project, "base", "wise")
        rows.unlink()
        with pytest.raises(UserError, match=r"evaluate.retention.hats: wise was not measured on it yet; `make run`"):
            self.compare(project, "base", "wise")
        (project / "data/evaluated/mixtures/wise/metrics.json").unlink()
        with pytest.raises(UserError, match="wise was not evaluated yet; `make run` does it"):
            self.compare(project, "base", "wise")


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="the extra `harness` is not installed")
@pytest.mark.filterwarnings("ignore")  # the harness's own
def test_a_task_of_the_harness_is_a_set_whose_results_have_no_clock_and_no_path(base: Base, folder: Path) -> None:
    at = folder / "tasks"
    at.mkdir()
    fact_rows().query("relation == 'colour'").head(6)[["prompt", "target"]].to_json(
        at / "hats.jsonl", orient="records", lines=True
    )
    write_yaml(at / "hats.yaml", {
        "task": "hats", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "hats.jsonl"}},
        "test_split": "test", "output_type": "generate_until", "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{target}}", "generation_kwargs": {"until": ["."], "max_gen_toks": 4},
        "metric_list": [{"metric": "exact_match"}],
    })  # fmt: skip
    task = {"kind": "harness", "path": str(at), "task": "hats", "metric": "exact_match"}
    params = settings({"task": task})
    out = run_retention(base, "task", params)
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert read_json(out / "metrics.json")["num"] == 6
    shutil.rmtree(".work")
    run_retention(base, "task", params)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first
    assert not [name for name, content in first.items() if str(folder).encode() in content]
    run_all(base, params)
    assert set(read_json(Path("data/evaluated/mixtures/wise/metrics.json"))["retention"]["task"]) >= {"change"}
    write_rows(Path("data/prepared/replay.jsonl"), fact_rows().head(2))
    with pytest.raises(UserError, match=r"1 of 6 rows may be replayed too, e.g. 'hats:0'"):
        run_retention(base, "task", params)
