"""Relations that one adapter learns one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.checkpoints.cards import ADAPTER_CARD
from knowtune.common.errors import UserError
from knowtune.common.files import read_json
from knowtune.methods.base import Method
from knowtune.methods.imsm.method import Imsm, Inner
from knowtune.methods.lora import Lora
from knowtune.preserve.options import Preserve
from knowtune.preserve.part import Part
from knowtune.preserve.sources import Material
from knowtune.preserve.streams import Stream
from knowtune.training.fit import fit, seed_everything
from knowtune.training.phases import split_phases
from knowtune.training.run import Job, train_seed
from knowtune.training.trainer import KnowledgeTrainer
from tests.unit.helpers import counted_calls, encoded, equal_states, fact_rows, recipe, row, state, table, training

LORA = Lora(rank=2, alpha=4.0)
WOVEN = Imsm(inner=Inner(method="lora", options={"rank": 2, "alpha": 4.0}))
ROWS = fact_rows().head(8)  # by turns of the relations colour and town
PHASES = [["town"], ["colour"]]
ROW_IDS = list("abcdefghijkl")


def learn(base: Base, top: Path, method: Method = LORA, phases: Any = PHASES, **changes: Any) -> dict[str, bytes]:
    changes = {"preserve": None, "material": None, "recipe": recipe(epochs=2, batch_size=2, save_steps=1), **changes}
    validation = fact_rows().tail(4).reset_index(drop=True)
    job = Job("x", "lora", method, seed=3, rows=ROWS, validation=validation, mask=None, phases=phases, **changes)
    train_seed(job, base, top / "out", top / "work")
    return {path.name: path.read_bytes() for path in sorted((top / "out").iterdir())}


def replays(base: Base, **options: Any) -> dict[str, Any]:
    """Replay twelve known rows."""
    known = base.task.encode(base.tokenizer(), fact_rows()[8:20])
    options = options or {"replay": {"from": "known"}}
    return {"preserve": Preserve.model_validate(options), "material": Material({"known": known}, {"known": ROW_IDS})}


def test_a_phase_begins_at_what_the_one_before_it_has_left(base: Base, tmp_path: Path) -> None:
    learn(base, tmp_path)
    seed_everything(3)
    model = LORA.attach(base.model())
    for relation in ("town", "colour"):
        rows = encoded(base, ROWS[ROWS["relation"] == relation].reset_index(drop=True))
        made = recipe(epochs=2, batch_size=2)
        model = fit(model, training(rows, tmp_path / relation, made, seed=3, method=LORA)).model
    assert equal_states(state(LORA.load(base.model(), tmp_path / "out")), state(model))


@pytest.mark.parametrize("method", [LORA, WOVEN])
@pytest.mark.parametrize(("stop", "every"), [(3, 1), (7, 1), (6, 3), (8, 3)])  # of four steps in each of two phases
def test_killed_in_any_phase_and_resumed_gives_the_same_bytes(
    method: Method, stop: int, every: int, base: Base, tmp_path: Path
) -> None:
    """With a log of every third step, the last step of a phase is in no log."""
    options = {"replay": {"from": "known"}, "distill": {"on": "replay"}, "anchor": {"weight": 1.0}}
    made = recipe(epochs=2, batch_size=2, save_steps=1, logging_steps=every)
    kept = {**replays(base, **options), "recipe": made}
    whole = learn(base, tmp_path / "whole", method, **kept)
    with (
        counted_calls(KnowledgeTrainer, "training_step", stop, RuntimeError("killed")),
        pytest.raises(RuntimeError, match="killed"),
    ):
        learn(base, tmp_path / "parts", method, **kept)
    assert learn(base, tmp_path / "parts", method, **kept) == whole


def test_what_is_replayed_goes_on_from_phase_to_phase(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[Part] = []
    read: list[int] = []

    def of_step(stream: Stream, part: Part) -> list[int]:
        drawn = plain(stream, part)
        if part not in parts:  # a step asks for what all of it reads, and for its own part of it
            parts.append(part)
            read.extend(drawn)
        return drawn

    plain = Stream.of_step
    monkeypatch.setattr(Stream, "of_step", of_step)
    learn(base, tmp_path, **replays(base))
    assert [(part.step, part.rows_before, part.rows) for part in parts] == [(i, 2 * i, 2) for i in range(8)]
    assert len(read) == len(set(read)) == 8


def test_the_curve_counts_through_and_the_card_names_the_phases(base: Base, tmp_path: Path) -> None:
    learn(base, tmp_path)
    curve = pd.read_csv(tmp_path / "out/curve.csv")
    assert curve[curve["split"] == "train"]["step"].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert curve[curve["split"] == "validation"]["step"].tolist() == [2, 4, 6, 8]
    card = read_json(tmp_path / "out" / ADAPTER_CARD)
    assert (card["phases"], card["num_steps"], card["num_rows"]) == (PHASES, 8, 8)


def test_the_best_epoch_is_the_last_phases(base: Base, tmp_path: Path) -> None:
    learn(base, tmp_path, recipe=recipe(epochs=2, batch_size=2, load_best_model_at_end=True), phases=PHASES[::-1])
    curve = pd.read_csv(tmp_path / "out/curve.csv")
    losses = curve[curve["split"] == "validation"]["loss"].tolist()
    assert min(losses) < min(losses[2:])  # so that the two differ here
    assert read_json(tmp_path / "out" / ADAPTER_CARD)["validation_loss"] == pytest.approx(min(losses[2:]))


def test_rows_are_split_by_relation_and_may_come_twice() -> None:
    rows = table(*(row(str(i), "p", "t", relation) for i, relation in enumerate("abcab")))
    assert split_phases(rows, [["a", "c"], ["b"], ["a"]], "runs.x.phases") == [[0, 2, 3], [1, 4], [0, 3]]


@pytest.mark.parametrize(
    ("phases", "words"),
    [
        ([["town"], ["colours"]], "no relation for runs.x.phases is called 'colours'; known: colour, town"),
        ([["town"], ["town"]], "runs.x.phases: 4 rows are of relations that are in no phase: 'colour'; put these"),
    ],
)
def test_what_does_not_fit_stops_before_anything_is_trained(
    phases: Any, words: str, base: Base, tmp_path: Path
) -> None:
    with (
        counted_calls(torch.optim.AdamW, "step", 1, RuntimeError("trained")),
        pytest.raises(UserError, match=words),
    ):
        learn(base, tmp_path, phases=phases)
