"""Lineage on a pipeline that has run: every row that an adapter saw, every link, and links that somebody broke."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from knowtune.lineage.row import TRAINED
from tests.pipeline.conftest import Project


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def asked(project: Project, *arguments: str, code: int = 0) -> dict[str, Any]:
    done = project.command("cli", "lineage", "--json", *arguments, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_a_row_reaches_the_adapters_that_trained_on_it_and_their_mixture(finished: Project) -> None:
    data = finished.folder / "data"
    chosen = next(row for row in read(data / "selected/some/seed-3/rows.jsonl") if row["chosen"])
    other = {row["id"] for row in read(data / "selected/some/seed-4/rows.jsonl") if row["chosen"]}
    answer = asked(finished, "--row", chosen["id"])
    saw = {run["name"]: run for run in answer["runs"] if TRAINED in run["saw"]}
    assert {"lora/seed-0", "full/seed-0", "woven/seed-0", "inside/seed-0", "prefix/seed-0"} <= set(saw)
    assert ("prefix/seed-1" in saw) == (chosen["id"] in other)
    weights = {row["id"]: row["weight"] for row in read(data / "adapters/prefix/seed-0/weights.jsonl")}
    assert saw["prefix/seed-0"]["weight"] == weights[chosen["id"]]
    assert {"kind": "mixture", "name": "soup/seed-0", "path": "data/mixed/soup/seed-0"} in answer["models"]
    assert answer["answer"] and answer["faults"] == []


def test_a_mixture_leads_back_to_its_rows_base_params_and_code(finished: Project) -> None:
    answer = asked(finished, "--model", "soup")
    nodes = {node["id"]: node for node in answer["nodes"]}
    assert list(nodes)[-1] == "mixture soup/seed-0"
    assert {"adapter lora/seed-0", "adapter full/seed-0", "kept full", "selection clean/seed-0", "rows"} <= set(nodes)
    assert "adapter prefix/seed-0" not in nodes
    card = json.loads((finished.folder / "data/base/base.json").read_text())
    assert nodes["base"]["facts"]["digest"] == card["digest"] == nodes["merged lora/seed-0"]["facts"]["base_digest"]
    assert answer["stages"]["train@lora"]["params"]["runs.lora"]["options"] == {"rank": 2, "alpha": 4}
    assert {"data/code/train/lora.json", "data/selected/clean"} <= set(answer["stages"]["train@lora"]["deps"])
    assert answer["faults"] == []


def test_links_that_are_broken_are_named(project: Project) -> None:
    data = project.folder / "data"
    weights = data / "adapters/lora/seed-0/adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1  # one bit
    weights.unlink()  # it may be a link into DVC's cache
    weights.write_bytes(content)
    shutil.rmtree(data / "filtered/clean")
    lock = project.folder / "dvc.lock"
    md5 = next(line for line in lock.read_text().partition("path: data/base\n")[2].splitlines() if "md5: " in line)
    answer = asked(project, "--model", "data/merged/lora/seed-0", code=1)
    faults = "\n".join(answer["faults"])
    assert "data/adapters/lora: changed since it was recorded: seed-0/adapter_model.safetensors" in faults
    assert "data/adapters/lora/seed-0: its card says weights" in faults
    assert "data/filtered/clean: not there, but DVC keeps it: `dvc checkout data/filtered/clean`" in faults
    row = asked(project, "--row", read(data / "prepared/train.jsonl")[0]["id"])  # what DVC keeps is read there
    assert {verdict["name"] for verdict in row["filters"] if verdict["kept"] is not None} == {
        "everything",
        "clean",
        "near",
    }
    text, stale = lock.read_text(), md5.replace("md5: ", "md5: 0")[: len(md5)]
    start = text.index("  train@lora:")
    lock.write_text(text[:start] + text[start:].replace(md5, stale, 2))
    shutil.rmtree(project.folder / ".dvc/cache")
    done = project.command("cli", "lineage", "--model", "lora", check=False)
    assert done.returncode == 1
    assert "FAULT: train@lora read data/base as 0" in done.stdout
    assert "data/filtered/clean: not there, and DVC's cache no longer has it" in done.stdout


def test_wrong_names_are_told(finished: Project) -> None:
    for name, message in (
        ("no such row", "neither a row's id nor part of a row's text in data/prepared"),
        ("", "got neither ROW nor MODEL; give one of them: make lineage ROW="),
    ):
        done = finished.command("cli", "lineage", "--row", name, check=False)
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr
