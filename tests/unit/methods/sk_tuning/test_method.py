from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.checkpoints.cards import ADAPTER_CARD, COMPOSED
from knowtune.common.errors import UserError
from knowtune.common.files import read_json
from knowtune.merging.fold import load_seed, merge_seed
from knowtune.methods.fish.method import Fish
from knowtune.methods.peft import Peft
from knowtune.methods.sk_tuning.method import SkTuning
from knowtune.models.forward import forward
from knowtune.models.generate import greedy_answers
from knowtune.models.heads import head_outputs
from knowtune.preserve.options import Preserve
from knowtune.preserve.sources import Material
from knowtune.preserve.teacher import AdapterOff, choose_teacher, first_outputs
from knowtune.selectors.artefact import open_selection
from knowtune.selectors.fish import Fish as FishSelector
from knowtune.selectors.run import ChoiceJob, Warmup, choose_seed
from knowtune.serving import load
from knowtune.text.encoded import Encoded
from knowtune.training.fit import fit
from knowtune.training.recipe import ShortTraining
from knowtune.training.run import Job, train_seed
from knowtune.training.trainer import KnowledgeTrainer
from stages.core.faults import faults_of
from stages.core.params import read_yaml
from tests.unit.helpers import (
    counted_calls,
    encoded,
    equal_states,
    fact_rows,
    recipe,
    review_rows,
    row,
    state,
    table,
    train,
    training,
)

IDS = [[1, 5, 9, 30, 200], [7, 8]]
TEXT = "The hat of Ada is "
WAYS = [{"variant": variant, "form": form} for variant in ("prefix", "prompt") for form in ("paper", "released")]
DEFAULT: dict[str, Any] = read_yaml(Path(__file__).resolve().parents[3] / "data/params.yaml")


def job(base: Base, method: SkTuning, **options: Any) -> Job:
    rows = fact_rows().head(8)
    given = {"seed": 0, "rows": rows, "validation": rows.head(0), "mask": None, "recipe": recipe(learning_rate=0.02)}
    return Job("sk", "sk_tuning", method, **{**given, **options})


@pytest.mark.parametrize("options", WAYS)
def test_it_trains_saves_and_loads_but_does_not_fold(options: dict[str, Any], base: Base, tmp_path: Path) -> None:
    method = SkTuning(text=TEXT, **options)
    fitted = train(base, method, fact_rows().head(4), tmp_path, batch_size=2, learning_rate=0.02)
    for place in ("saved", "again"):
        method.save(fitted.model, tmp_path / place)
    files = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}
    assert set(files) == {"adapter_config.json", "adapter_model.safetensors"}
    assert str(base.folder) not in files["adapter_config.json"].decode()
    loaded = method.load(base.model(), tmp_path / "saved")
    with torch.inference_mode():
        trained = forward(fitted.model, IDS)
        assert torch.equal(forward(loaded, IDS), trained)
        assert (trained - forward(base.model(), IDS)).abs().max() > 1e-3
    with pytest.raises(UserError, match="cannot be folded; it stays a composed artefact"):
        method.fold(loaded)
    assert not method.folds and method.resumes


def test_a_killed_run_resumes_to_the_same_bits(base: Base, tmp_path: Path) -> None:
    method, options = SkTuning(text=TEXT, dropout=0.1), {"batch_size": 2, "save_steps": 1}
    whole = train(base, method, fact_rows().head(6), tmp_path / "whole", **options)
    with (
        counted_calls(KnowledgeTrainer, "compute_loss", 3, RuntimeError("killed")),
        pytest.raises(RuntimeError, match="killed"),
    ):
        train(base, method, fact_rows().head(6), tmp_path / "parts", **options)
    parts = train(base, method, fact_rows().head(6), tmp_path / "parts", **options)
    assert equal_states(state(parts.model), state(whole.model)) and parts.curve == whole.curve


def test_the_curve_follows_how_like_its_words_it_is(base: Base, tmp_path: Path) -> None:
    from knowtune.evaluation.report.sections.curves import SIMILARITY, mean_line

    fitted = train(base, SkTuning(text=TEXT), fact_rows().head(6), tmp_path, batch_size=2, learning_rate=0.02)
    curve = pd.DataFrame(fitted.curve)
    followed = curve[curve["split"] == "similarity"]
    assert followed["step"].tolist() == [1, 2, 3] and followed["loss"].iloc[-1] == SkTuning(text=TEXT).similarity(
        fitted.model
    )
    assert 1.0 > followed["loss"].iloc[0] > followed["loss"].iloc[-1]
    shown = mean_line(curve, SIMILARITY, first=1.0)
    assert list(shown.x) == [0, 1, 2, 3] and shown.y[0] == 1.0


def test_the_chosen_entries_of_its_adapter_move_and_no_others(base: Base, tmp_path: Path) -> None:
    """As in FISH-Tuning: a selection may choose among its parameters."""
    warmup = Warmup("sk_tuning", SkTuning(text=TEXT), ShortTraining(steps=3, learning_rate=0.01, batch_size=4))
    choice = ChoiceJob("s", "fish", FishSelector(num_parameters=60), 0, fact_rows().head(8), warmup=warmup)
    choose_seed(choice, base, tmp_path / "seed-0", tmp_path / "work")
    selected = open_selection(tmp_path / "seed-0")
    model = Fish().attach_masked(base.model(), selected.mask, selected.adapter)
    given = training(encoded(base, fact_rows().head(8)), tmp_path / "train", recipe(learning_rate=0.01), method=Fish())
    fit(model, given)
    Fish().save(model, tmp_path / "saved")
    assert read_json(tmp_path / "saved" / "adapter_config.json")["peft_type"] == "SK_TUNING"
    cold = state(Fish().load(base.model(), tmp_path / "saved"))
    warm = state(Fish().load(base.model(), selected.adapter))
    moved = {name: (warm[name] != cold[name]).flatten().nonzero().flatten().tolist() for name in warm}
    assert 0 < sum(map(len, moved.values())) <= 60
    assert all(set(places) <= set(selected.mask[name].tolist()) for name, places in moved.items() if places)


@pytest.mark.parametrize("options", [*WAYS, {"pooling": "mean"}, {"variant": "prompt", "pooling": "released"}])
@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_a_classifier_is_trained_saved_and_loaded(
    kind: str, options: dict[str, Any], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    classifier: Base = request.getfixturevalue(kind)
    method, rows = SkTuning(text="good", **options), review_rows().head(6)
    fitted = train(classifier, method, rows, tmp_path, batch_size=2, learning_rate=0.02)
    method.save(fitted.model, tmp_path / "saved")
    loaded = method.load(classifier.model(), tmp_path / "saved")
    given = encoded(classifier, rows).rows
    expected = head_outputs(fitted.model.eval(), given, 6, "")
    assert torch.equal(head_outputs(loaded, given, 6, ""), expected)
    if options.get("pooling") != "released":  # which takes padding in
        assert torch.allclose(head_outputs(loaded, given, 1, ""), expected, atol=1e-5)


@pytest.mark.parametrize("options", WAYS)
def test_merged_it_is_composed_and_served_by_one_call(options: dict[str, Any], base: Base, tmp_path: Path) -> None:
    method, rows = SkTuning(text=TEXT, **options), fact_rows().head(8)
    slow = recipe(learning_rate=0.05, epochs=12, batch_size=8)
    train_seed(job(base, method, recipe=slow), base, tmp_path / "seed-0", tmp_path / "work")
    found = merge_seed(method, tmp_path / "seed-0", base, tmp_path / "merged", rows.head(4), 4)
    assert found["largest"] == found["trained"] == 0.0
    assert read_json(tmp_path / "merged" / COMPOSED) == {"method": "sk_tuning", "options": method.model_dump()}
    served = load(tmp_path / "merged", base)
    prompts = rows["prompt"].tolist()
    attached = load_seed(method, tmp_path / "seed-0", base)
    answers = served.answer(prompts, max_new_tokens=6)
    assert answers == greedy_answers(attached, base.tokenizer(), prompts, 1, 6)
    assert answers != greedy_answers(base.model(), base.tokenizer(), prompts, 8, 6)


def test_the_text_takes_positions_of_the_context(base: Base, tmp_path: Path) -> None:
    num = len(base.tokenizer()("qz" * 30)["input_ids"])
    with pytest.raises(UserError, match=f"context of 64 tokens, of which the method's virtual tokens take {num}"):
        train_seed(job(base, SkTuning(text="qz" * 30)), base, tmp_path / "out", tmp_path / "work")
    method = SkTuning(text="qz" * 25)
    num = method.num_virtual_tokens(base.tokenizer())
    attached = method.attach(base.model()).eval()
    with pytest.raises(UserError, match=rf"and the model reads {64 - num} at most \({num} positions of its context"):
        greedy_answers(attached, base.tokenizer(), ["qz" * 20], 1, 4)
    assert len(greedy_answers(attached, base.tokenizer(), ["Ada lives in "], 1, 100)) == 1  # ends where there is room


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("qz" * 60, r"the text has \d+ tokens, which leaves no room for an input in a context of 64"),
        ("\u3042", "becomes unknown tokens only"),
    ],
)
def test_a_text_that_cannot_be_is_refused_before_training(
    text: str, fault: str, base: Base, encoder: Base, tmp_path: Path
) -> None:
    on, rows = (base, fact_rows().head(4)) if text.startswith("q") else (encoder, review_rows().head(4))
    short = rows if on is encoder else table(row("a", "q", "z"))
    with pytest.raises(UserError, match=fault):
        SkTuning(text=text).attach(on.model())
    with pytest.raises(UserError, match=f"{fault}|longer than the base's context"):
        train_seed(job(on, SkTuning(text=text), rows=short), on, tmp_path / "out", tmp_path / "work")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", WAYS)
def test_the_base_stands_beside_it(options: dict[str, Any], base: Base) -> None:
    inputs = base.task.inputs(encoded(base, fact_rows().head(3)).rows)
    pristine = first_outputs(base.model(), inputs).detach()
    model = SkTuning(text=TEXT, **options).attach(base.model())
    teacher = choose_teacher(model, base, inputs, pristine)
    assert isinstance(teacher, AdapterOff)
    assert torch.equal(teacher(model, inputs).logits, pristine)
    assert not torch.allclose(first_outputs(model, inputs), pristine, atol=1e-2)


def test_it_is_held_to_its_base_while_it_learns(base: Base, tmp_path: Path) -> None:
    known = base.task.encode(base.tokenizer(), fact_rows()[8:12])
    written = [Encoded.running([0, 5, 9, 30 + i]) for i in range(5)]
    sequences: dict[str, Any] = {"known": known, "self": written}
    material = Material(sequences, {source: [str(i) for i in range(len(rows))] for source, rows in sequences.items()})
    keep = {
        "replay": {"from": "known"},
        "distill": {"on": ["replay", "self"]},
        "anchor": {"of": "parameters", "weight": 0.1},
    }
    kept = job(base, SkTuning(text=TEXT), preserve=Preserve.model_validate(keep), material=material)
    train_seed(kept, base, tmp_path / "kept", tmp_path / "work")
    card = read_json(tmp_path / "kept" / ADAPTER_CARD)["preserve"]
    assert card["teacher"] == "the model with its adapter off"
    assert {"replay", "distill", "anchor"} <= set(pd.read_csv(tmp_path / "kept" / "curve.csv")["split"])
    long = {**sequences, "self": [Encoded.running(list(range(3, 60)))]}
    material = Material(long, {source: [str(i) for i in range(len(rows))] for source, rows in long.items()})
    with pytest.raises(UserError, match="of which the method's virtual tokens take"):
        train_seed(replace(kept, material=material), base, tmp_path / "long", tmp_path / "work-long")


def test_answers_come_in_batches_of_unlike_length(base: Base) -> None:
    """As they do not with PEFT's virtual tokens, which padding may come to stand behind."""
    from knowtune.models.decoder import Decoder

    attached = SkTuning(text=TEXT).attach(base.model()).eval()
    with torch.inference_mode():
        assert not Decoder.of(attached, base.tokenizer()).padding_changes_answers(list(range(5, 25)))
    prompts = fact_rows()["prompt"].tolist()
    together, alone = (greedy_answers(attached, base.tokenizer(), prompts, size, 6) for size in (24, 1))
    assert together == alone


def test_what_params_cannot_say() -> None:
    def faults(task: str | None = None, **options: Any) -> list[str]:
        raw = copy.deepcopy(DEFAULT)
        raw["runs"]["lora"] |= {"method": "sk_tuning", "options": options}
        return [str(problem) for problem in faults_of(raw, deep=False) if "runs.lora" in str(problem)]

    assert faults(text="Answer in one word.") == []
    assert faults(text="x", variant="prompt", rank=4, dropout=0.1) == []
    assert faults(text=" ") == [
        "runs.lora.options.text: got ' '; allowed: words of plain text, from which training begins"
    ]
    assert faults() and "runs.lora.options.text" in faults()[0]
    assert faults(text="x", pooling="mean") == [
        "runs.lora.options.pooling: got 'mean' for a language model, which has no head that pools; allowed: model"
    ]
    assert faults(text="x", form="released", rank=2) == [
        "runs.lora.options.rank: got an option of form: paper; form: released has no projections; allowed: leave it out"
    ]


def test_an_anchor_on_its_change_is_refused() -> None:
    raw = copy.deepcopy(DEFAULT)
    raw["runs"]["lora"] |= {"method": "sk_tuning", "options": {"text": "x"}, "preserve": {"anchor": {"weight": 1.0}}}
    assert [str(problem) for problem in faults_of(raw, deep=False) if problem.where.startswith("runs.")] == [
        "runs.lora.preserve.anchor.of: got 'change', and sk_tuning with these options gives no matrix by which it "
        "changes a weight; allowed: parameters"
    ]


def test_peft_by_name_points_here() -> None:
    assert "take `method: sk_tuning`" in str(Peft(type="sk_tuning").problems("runs.x")[0])


def test_a_text_for_another_base_is_refused(base: Base, tmp_path: Path) -> None:
    method = SkTuning(text=TEXT)
    train_seed(job(base, method), base, tmp_path / "seed-0", tmp_path / "work")
    other = replace(base, card={**base.card, "digest": "0" * 64})
    with pytest.raises(UserError, match="made on a base with digest"):
        load_seed(method, tmp_path / "seed-0", other)
