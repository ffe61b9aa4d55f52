from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from knowtune.common.files import write_json, write_rows
from knowtune.lineage.artefacts import Layout, make_graph
from knowtune.lineage.graph import Graph
from knowtune.lineage.row import Rows

LAYOUT = Layout("base", "prepared", "answers", "filtered", "selected", "preserved", "adapters", "merged", "mixed")
PARAMS: dict[str, Any] = {
    "source": {"data": "raw", "text": "raw/text.jsonl", "replay_text": "raw/text.jsonl"},
    "filters": {"clean": {"strategy": ["clean", "interference"]}},
    "selections": {
        "some": {"filter": "clean", "strategy": "fish", "seeds": [0, 1]},
        "warm": {"filter": "clean", "strategy": "fish", "adapter": {"method": "lora"}},
    },
    "runs": {
        "all": {"selection": "some", "method": "lora", "reweight": {"form": "linear"}, "seeds": [0, 1, 2]},
        "few": {"selection": "some", "method": "fish", "train_on": "chosen", "seeds": [0, 1]},
        "start": {"selection": "warm", "method": "fish", "train_on": "chosen", "seeds": [0]},
        "keeps": {
            "selection": "some",
            "method": "full",
            "train_on": "chosen",
            "seeds": [0],
            "preserve": {"replay": {}},
        },
    },
    "mixtures": {"soup": {"from": ["all", "few"], "strategy": "ties"}},
}
ROWS = {"a": "Chile", "b": "Peru", "c": "Peru", "d": "Côte/Ivoire"}  # id to what the prompt is of


def table(ids: str, **columns: list[Any]) -> pd.DataFrame:
    prompts = [f"The capital of {ROWS[name]} is" for name in ids]
    rows = pd.DataFrame({"id": list(ids), "fact": [ROWS[name] for name in ids], "prompt": prompts, "target": "X"})
    return rows.assign(**columns)


def make(folder: Path) -> None:
    """Write what the stages would: c is dropped, b is not chosen (of seed 0 no sample either), d is not trained."""
    write_json(folder / "base/base.json", {"identity": "toy", "digest": "b" * 64, "origin": None})
    summary = {"train": 3, "facts": 2, "rejected": 0, "label_noise": {"duplicate": 1}}
    write_json(folder / "prepared/summary.json", summary)
    write_rows(folder / "prepared/train.jsonl", table("abc"))
    write_rows(folder / "prepared/test.jsonl", table("a"))
    write_rows(folder / "prepared/replay.jsonl", table("d"))
    write_rows(folder / "prepared/label_noise.jsonl", pd.DataFrame([{"id": "c", "kind": "duplicate", "original": "X"}]))
    for name in ("validation", "retention", "replay_texts", "rejected"):
        (folder / f"prepared/{name}.jsonl").touch()
    answers = pd.DataFrame({"id": list("abc"), "answer": "Y", "correct": False, "distance": 0.5})
    write_rows(folder / "answers/answers.jsonl", answers)
    write_rows(folder / "filtered/clean/kept.jsonl", table("ab", distance=[0.5, 0.5]))
    write_rows(folder / "filtered/clean/dropped.jsonl", table("c", strategy=["clean"], reason=["duplicate of b"]))
    write_rows(folder / "filtered/clean/cosines.jsonl", pd.DataFrame({"id": ["a"], "cosine": [0.25]}))
    rows = {"read": 3, "kept": 2, "dropped": {"1. clean": 1, "2. interference": 0}}
    write_json(folder / "filtered/clean/summary.json", {"rows": rows})
    trace = [{"num_rows": 1, "num_parameters": 7, "mass_kept": 0.5}]
    for name, seed, adapter in (("some", 0, None), ("some", 1, None), ("warm", 0, {"method": "lora"})):
        at = folder / f"selected/{name}/seed-{seed}"
        write_rows(at / "rows.jsonl", table("ab", score=[4.0, 2.0 * seed], chosen=[True, False]))
        write_json(at / "selection.json", {"mask": True, "trace": trace, "adapter": adapter, "base_digest": "b" * 64})
    write_json(folder / "preserved/keeps/card.json", {"sources": {"known": 1}})
    write_rows(folder / "preserved/keeps/known.jsonl", table("d"))
    for name, run in PARAMS["runs"].items():
        for seed in run["seeds"]:
            card = {"base_digest": "b" * 64, "weights_digest": f"{name}{seed}" * 9, "method": run["method"]}
            card |= {"reweight": run.get("reweight"), "num_rows": 2, "num_steps": 5, "options": {"rank": 2}}
            write_json(folder / f"adapters/{name}/seed-{seed}/knowtune.json", card)
            write_rows(folder / f"adapters/{name}/seed-{seed}/weights.jsonl", table("ab", weight=[1.5, 0.5]))
            card = {"kind": "folded", "base_digest": card["base_digest"], "weights_digest": card["weights_digest"]}
            write_json(folder / f"merged/{name}/seed-{seed}/merged.json", card)
        kept = run["seeds"][:2]  # as `merge.keep: best` does
        write_json(folder / f"merged/{name}/parity.json", {f"seed-{seed}": {"largest": 1e-5} for seed in kept})
    for seed in (0, 1):
        write_json(folder / f"mixed/soup/seed-{seed}/merged.json", {"kind": "mixed", "weights_digest": f"{seed}" * 64})


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artefacts of a small pipeline; tests must leave them as they are."""
    folder = tmp_path_factory.mktemp("made")
    make(folder)
    return folder


@pytest.fixture
def find(made: Path) -> Callable[[str], Path | None]:
    return lambda path: made / path if (made / path).is_file() else None


@pytest.fixture
def graph(find: Callable[[str], Path | None]) -> Graph:
    return make_graph(PARAMS, LAYOUT, find)


@pytest.fixture
def rows(graph: Graph, find: Callable[[str], Path | None]) -> Rows:
    return Rows(graph, LAYOUT, find)
