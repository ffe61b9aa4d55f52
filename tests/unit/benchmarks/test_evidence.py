"""The evidence pages say what the finished trainings say, and a training of either benchmark can still be made."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.beacons_evidence import page as beacons_page
from benchmarks.beacons_evidence import results as beacons_results
from benchmarks.beacons_evidence.bench import BeaconsBench, Setting
from benchmarks.evidence.comparisons import GRID_SEED
from benchmarks.evidence.markdown import page_text
from benchmarks.evidence.materials import Material
from benchmarks.evidence.store import read_latest
from benchmarks.imsm_evidence import page as imsm_page
from benchmarks.methods_evidence import page as methods_page
from benchmarks.methods_evidence import results as methods_results
from benchmarks.preserve_evidence import page as preserve_page
from benchmarks.preserve_evidence import results as preserve_results
from benchmarks.selection_evidence import bench as selection_bench
from benchmarks.selection_evidence import page as selection_page
from benchmarks.selection_evidence.bench import SelectionBench
from benchmarks.selection_evidence.parts import Part
from benchmarks.selection_evidence.results import read_results
from benchmarks.selection_evidence.texts import TASKS
from knowtune.checkpoints.base import Base
from tests.unit.helpers import fact_rows

ROOT = Path(__file__).resolve().parents[3]


def without_versions(text: str) -> str:
    """Leave out what depends on the machine that writes the page."""
    return re.sub(r"(?m)^(- )?Python \d.*\n(  .*\n)*", "", text)


def without_overlaps(text: str) -> str:
    """Leave out the last column of the table of masks: the masks are not kept."""
    head, _, rest = text.partition("also in FISH's mask |\n")
    table, _, tail = rest.partition("\n\n")
    return "\n".join([head, *(line.rpartition(" | ")[0] for line in table.split("\n")), tail])


def test_the_page_on_selections_follows_from_the_records() -> None:
    work = ROOT / "benchmarks/selection_evidence/finished"
    text = page_text(selection_page.lines(read_results(work, list(TASKS)), work))
    written = (ROOT / "docs/evidence.md").read_text(encoding="utf-8")
    assert without_versions(without_overlaps(text)) == without_versions(without_overlaps(written))


PAGES = {  # docs/PAGE.md -> what writes it
    "evidence-beacons": ("beacons", lambda at: beacons_page.lines(beacons_results.read_results(at))),
    "evidence-preserve": ("preserve", lambda at: preserve_page.lines(preserve_results.read_results(at))),
    "evidence-methods": ("methods", lambda at: methods_page.lines(methods_results.read_results(at))),
    "evidence-imsm": ("imsm", lambda at: imsm_page.lines(imsm_page.results_in(at))),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_follows_from_the_records(name: str) -> None:
    bench, lines = PAGES[name]
    text = page_text(lines(ROOT / f"benchmarks/{bench}_evidence/finished"))
    assert without_versions(text) == without_versions((ROOT / f"docs/{name}.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "name", ["selection_evidence", "beacons_evidence", "preserve_evidence", "methods_evidence", "imsm_evidence"]
)
def test_help(name: str) -> None:
    command = [sys.executable, "-m", f"benchmarks.{name}", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"python -m benchmarks.{name} --work W --page" in done.stdout


@pytest.fixture
def material(base: Base) -> Material:
    rows = fact_rows()
    examples = rows.assign(kind=["generalisation", "locality"] * (len(rows) // 2))
    return Material(
        name="embedded",
        base=base,
        rows=rows,
        validation=rows.iloc[:4].reset_index(drop=True),
        examples=examples,
        texts=pd.DataFrame({"id": ["a"], "text": ["The hat of Ada is red and green and blue"]}, dtype="str"),
        metrics=["generalisation", "forgotten", "text_drift"],
        epochs=1,
        batch_size=8,
        ird_from=None,
        max_tokens=32,
    )


def records(folder: Path) -> dict[str, list[dict[str, Any]]]:
    base, pieces = read_latest(folder / "embedded.jsonl")
    assert base is not None
    return {what: [p for p in pieces if p["what"] == what] for what in ("base", "selection", "training")}


def test_a_selection_is_made_and_trained(material: Material, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("benchmarks.selection_evidence.bench.CHOSEN", 12)
    part = Part(2, "chosen", (1e-3,), arms=("ird",))
    bench = SelectionBench(material, [part], tmp_path, num_seeds=1)
    assert bench.left() == 2  # the grid, and a seed at a rate that is not chosen yet
    bench.run()
    pieces = records(tmp_path)
    assert [len(piece["chosen"]) for piece in pieces["selection"]] == [12]  # IRD's choice has nothing random
    assert [training["seed"] for training in pieces["training"]] == [GRID_SEED, 0]
    for training in pieces["training"]:
        assert list(training["metrics"]) == material.metrics
        assert training["num_trainable"] == bench.budgets[2]
    again = SelectionBench(material, [part], tmp_path, num_seeds=1)
    assert again.left() == 0
    assert records(tmp_path) == pieces


def test_rows_of_the_same_relations_are_random_and_as_many_of_each(
    material: Material, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("benchmarks.selection_evidence.bench.CHOSEN", 12)
    bench = SelectionBench(material, [Part(2, "chosen")], tmp_path)
    ird, _ = bench.choice(selection_bench.Setting("ird", 2, "chosen", 0, 1e-3))
    drawn = [bench.rows_alone(selection_bench.Setting("lora-same", 2, "chosen", seed, 1e-3)) for seed in range(3)]
    relations = material.rows["relation"]
    for rows in drawn:
        assert sorted(relations[rows]) == sorted(relations[ird])
    assert len({tuple(rows) for rows in drawn}) > 1


def test_a_known_fact_gained_makes_up_for_one_lost_as_in_the_pieces_of_before(
    material: Material, tmp_path: Path
) -> None:
    bench = SelectionBench(material, [], tmp_path)
    known = bench.pristine.examples["kind"] == "locality"
    _, *others = bench.pristine.examples.index[known]
    before = bench.pristine.examples.assign(correct=False)
    before.loc[others, "correct"] = True
    after = before.assign(correct=~before["correct"])  # one gained, all others lost
    bench.pristine = replace(bench.pristine, examples=before)
    scores = bench.score(replace(bench.pristine, examples=after))
    assert scores["forgotten"] == pytest.approx((len(others) - 1) / (len(others) + 1))


def test_pieces_are_known_by_the_base_and_not_by_how_a_card_is_digested(material: Material) -> None:
    card = {**material.base.card, "digest": "another", "files": {**material.base.card["files"], "notes.md": "0"}}
    assert replace(material, base=replace(material.base, card=card)).described() == material.described()
    card["files"]["model.safetensors"] = "0"
    assert replace(material, base=replace(material.base, card=card)).described() != material.described()


def test_rows_are_filtered_weighed_and_trained(material: Material, tmp_path: Path) -> None:
    bench = BeaconsBench(replace(material, metrics=()), tmp_path, num_seeds=1)
    left = bench.left()
    bench.train(Setting("lora", "nearest", "far more", 0.3, 0, 1e-3))
    (training,) = records(tmp_path)["training"]
    assert (training["num_rows"], training["num_wrong"]) == (20, 8)
    assert bench.left() == left  # no rate is chosen yet, so it is none of those that are to do
