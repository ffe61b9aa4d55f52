from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from knowtune.checkpoints.cards import MERGED
from stages.tracking.book import Book
from stages.tracking.chain import link_models
from stages.tracking.lineage import Digest, Lineage
from stages.tracking.numbers import Seed
from stages.tracking.spool import LOCK
from stages.tracking.store import open_experiment, open_store

Record = Callable[..., list[str]]
DEPS: dict[str, Digest] = {"data/merged": {"md5": "m.dir"}}
LOCKED = {"merge@kept": {"outs": [{"path": "data/merged/kept", "md5": "k.dir"}]}}


def note_of(stage: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"stage": stage, "params": params, "ended": time.time()}


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Record]:
    """Give a mixture of one run's two seeds to a real store; return the names of the models that its run read."""
    monkeypatch.chdir(tmp_path)
    client = open_store(f"sqlite:///{tmp_path / 'mlflow.db'}")
    book = Book(client, open_experiment(client, "mixed"), "", {})
    (tmp_path / LOCK).write_text(json.dumps({"stages": LOCKED}))

    def link(stage: str, params: dict[str, Any], out: str, lineage: Lineage, seeds: Sequence[str]) -> list[str]:
        runs = {seed: client.create_run(book.experiment, run_name=f"{stage} {seed}").info.run_id for seed in seeds}
        for seed in seeds:
            (tmp_path / out / seed).mkdir(parents=True)
            (tmp_path / out / seed / MERGED).write_text(json.dumps({"kind": "folded", "weights_digest": seed}))
        link_models(book, note_of(stage, params), tmp_path, lineage, {s: (run, Seed()) for s, run in runs.items()})
        read = client.get_run(runs[seeds[0]]).inputs.model_inputs
        return sorted(client.get_logged_model(model.model_id).name for model in read)

    def go(**mixture: Any) -> list[str]:
        kept, mixed = "data/merged/kept", "data/mixed/one"
        made = Lineage(outs={kept: {"md5": "k.dir"}}, paths={kept: tmp_path / kept})
        link("merge@kept", {"runs": {"kept": {"seeds": [0, 1]}}}, kept, made, ["seed-0", "seed-1"])
        lineage = Lineage(DEPS, {mixed: {"md5": "x.dir"}}, {mixed: tmp_path / mixed})
        return link("mix@one", {"mixtures": {"one": {"from": ["kept"], **mixture}}}, mixed, lineage, ["seed-0"])

    yield go


@pytest.mark.parametrize(
    ("mixture", "read"),
    [({}, ["kept-seed-0-folded"]), ({"seeds": "all"}, ["kept-seed-0-folded", "kept-seed-1-folded"])],
)
def test_a_mixture_reads_the_models_of_its_seed_or_of_all(
    record: Record, mixture: dict[str, Any], read: list[str]
) -> None:
    assert record(**mixture) == read
