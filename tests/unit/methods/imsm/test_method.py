from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from knowtune.checkpoints.base import Base
from knowtune.checkpoints.cards import ADAPTER_CARD, COMPOSED, MERGED
from knowtune.common.errors import UserError
from knowtune.common.files import read_json
from knowtune.merging.fold import load_seed, merge_seed
from knowtune.methods.imsm.method import Imsm
from knowtune.methods.lora import Lora
from knowtune.methods.peft_adapters import ADAPTER_WEIGHTS
from knowtune.models.decoder import Decoder
from knowtune.models.forward import forward
from knowtune.models.generate import greedy_answers
from knowtune.preserve.options import Preserve
from knowtune.preserve.sources import Material
from knowtune.preserve.teacher import AdapterOff, choose_teacher, first_outputs
from knowtune.selectors.artefact import open_selection
from knowtune.selectors.fish import Fish as FishSelector
from knowtune.selectors.run import ChoiceJob, Warmup, choose_seed
from knowtune.serving import load
from knowtune.tasks.teacher_forcing import judge_rows
from knowtune.text.encoded import Encoded
from knowtune.training.recipe import ShortTraining
from knowtune.training.run import Job, train_seed
from knowtune.training.trainer import KnowledgeTrainer
from stages.core.faults import faults_of
from stages.core.params import read_yaml
from stages.core.runs import method_of
from stages.core.schema import RunParams
from tests.unit.helpers import counted_calls, equal_states, fact_rows, recipe, state, train

IDS = [[1, 5, 9, 30, 200], [7, 8]]
LORA: dict[str, Any] = {"method": "lora", "options": {"rank": 2, "alpha": 4.0}}
WORDS: dict[str, Any] = {"method": "sk_tuning", "options": {"text": "The hat of Ada is "}}
INNERS: dict[str, dict[str, Any]] = {
    "lora": LORA,
    "dora": {"method": "peft", "type": "lora", "options": {"r": 2, "use_dora": True, "target_modules": "all-linear"}},
    "ia3": {
        "method": "peft",
        "type": "ia3",
        "options": {"target_modules": ["v_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
    },
    "oft": {"method": "peft", "type": "oft", "options": {"r": 0, "oft_block_size": 8, "target_modules": ["q_proj"]}},
    "kasa": {"method": "kasa", "options": {"rank": 2, "alpha": 4.0}},
    "fish": {"method": "fish"},
    "prefix": WORDS,
}
DEFAULT: dict[str, Any] = read_yaml(Path(__file__).resolve().parents[3] / "data/params.yaml")


def imsm(inner: dict[str, Any] = LORA, **options: Any) -> Imsm:
    return Imsm(inner=inner, **options)  # type: ignore[arg-type]


def some_mask(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: torch.arange(0, p.numel(), 7) for name, p in model.named_parameters()}


def job(base: Base, method: Imsm, **options: Any) -> Job:
    rows = fact_rows().head(8)
    given = {"seed": 0, "rows": rows, "validation": rows.head(4), "mask": None, "recipe": recipe(learning_rate=0.02)}
    return Job("woven", "imsm", method, **{**given, **options})


@pytest.mark.parametrize("inner", ["lora", "kasa", "fish", "prefix"])
def test_a_run_trains_merges_to_a_composed_artefact_and_is_served(inner: str, base: Base, tmp_path: Path) -> None:
    method, mask = imsm(INNERS[inner], gate_rank=4), some_mask(base.model()) if inner == "fish" else None
    adapter, folder = tmp_path / "adapter", tmp_path / "merged"
    train_seed(job(base, method, mask=mask), base, adapter, tmp_path / "work")
    assert read_json(adapter / ADAPTER_CARD)["options"]["inner"]["method"] == INNERS[inner]["method"]
    parities = merge_seed(method, adapter, base, folder, fact_rows().head(4), 2)
    assert parities["largest"] == 0.0 and parities["trained"] <= 1e-5
    assert read_json(folder / MERGED) | {"kind": "composed", "base_digest": base.digest} == read_json(folder / MERGED)
    assert read_json(folder / COMPOSED)["options"]["gate_rank"] == 4
    served, attached = load(folder, base), load_seed(method, adapter, base)
    prompts = fact_rows()["prompt"].tolist()[:3]
    assert served.answer(prompts, raw=True) == greedy_answers(attached, base.tokenizer(), prompts, 16, 16)
    assert load(adapter, base).answer(prompts, raw=True) == served.answer(prompts, raw=True)
    with torch.inference_mode():
        assert (forward(attached, IDS) - forward(base.model(), IDS)).abs().max() > 1e-3


def test_a_run_of_params_names_the_inner_method_beside_the_options() -> None:
    run = RunParams.model_validate(
        {"selection": "all", "method": "imsm", "options": {"gate_rank": 4}, "inner": LORA, "seeds": [0]}
    )
    method = method_of(run)
    assert isinstance(method, Imsm) and method.gate_rank == 4
    assert method.inside == Lora(rank=2, alpha=4.0)
    assert Imsm(**method.model_dump(mode="json")) == method


def test_answers_are_judged_as_they_are_written(base: Base, tmp_path: Path) -> None:
    """The query is the prompt's mean in both, so teacher forcing and decoding agree."""
    model = train(base, imsm(), fact_rows(), tmp_path, batch_size=4, learning_rate=0.02, epochs=3).model
    for parameter in model.base_model.layer.parameters():
        parameter.data *= 20  # so that the query matters
    rows, tokenizer = fact_rows(), base.tokenizer()
    judged = judge_rows(model, tokenizer, rows, 4, "")
    written = greedy_answers(model, tokenizer, rows["prompt"].tolist(), 4, 8)
    right = [answer.strip() == target for answer, target in zip(written, rows["target"], strict=True)]
    assert [correct or not ok for correct, ok in zip(judged["correct"], right, strict=True)] == [True] * len(rows)
    assert sum(right) == judged["answer"].notna().sum() > 4
    decoder = Decoder.of(model, tokenizer)
    with torch.inference_mode():
        assert not decoder.padding_changes_answers(tokenizer(rows["prompt"].iloc[0])["input_ids"])


def test_the_loss_of_a_step_knows_the_prompt(base: Base, tmp_path: Path) -> None:
    """As the same rows give it by labels, which the Trainer keeps to itself."""
    kept: list[Any] = []
    plain = KnowledgeTrainer.compute_loss

    def watch(self: Any, model: Any, inputs: Any, *args: Any, **options: Any) -> Any:
        given = {name: tensor.clone() for name, tensor in inputs.items() if name != "index"}
        loss = plain(self, model, inputs, *args, **options)
        if model.training:
            kept.append((float(loss.detach()), float(model(**given).loss.detach())))
        return loss

    KnowledgeTrainer.compute_loss = watch  # type: ignore[method-assign]
    try:
        train(base, imsm(gate_rank=4), fact_rows().head(8), tmp_path, batch_size=4)
    finally:
        KnowledgeTrainer.compute_loss = plain  # type: ignore[method-assign]
    assert len(kept) == 2 and all(loss == pytest.approx(own, rel=1e-4) for loss, own in kept)


def test_the_gate_learns_at_a_rate_of_its_own(base: Base) -> None:
    method = imsm(gate_learning_rate=0.002)
    model = method.attach(base.model())
    rest, gate = method.parameter_groups(model) or []
    assert gate["lr"] == 0.002 and "lr" not in rest and len(gate["params"]) == 2
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    assert {id(p) for group in (rest, gate) for p in group["params"]} == trained
    fixed = imsm(gate="fixed")
    assert fixed.parameter_groups(fixed.attach(base.model())) is None
    assert Imsm.model_fields["gate_learning_rate"].default == 1e-3


def test_a_killed_run_resumes_to_the_same_bits(base: Base, tmp_path: Path) -> None:
    method, options = imsm(gate_dropout=0.1), {"batch_size": 2, "save_steps": 1}
    whole = train(base, method, fact_rows().head(6), tmp_path / "whole", **options)
    with (
        counted_calls(KnowledgeTrainer, "compute_loss", 3, RuntimeError("killed")),
        pytest.raises(RuntimeError, match="killed"),
    ):
        train(base, method, fact_rows().head(6), tmp_path / "parts", **options)
    parts = train(base, method, fact_rows().head(6), tmp_path / "parts", **options)
    assert equal_states(state(parts.model), state(whole.model)) and parts.curve == whole.curve


def test_the_inner_methods_penalty_and_virtual_tokens_are_its_own(base: Base) -> None:
    method = imsm(INNERS["kasa"])
    model = method.attach(base.model())
    penalty = method.penalty(model)
    own = method.inside.penalty(model)
    assert penalty is not None and own is not None and penalty.equal(own) and bool(own > 0)
    words = imsm(WORDS)
    assert words.num_virtual_tokens(base.tokenizer()) > 3 and words.similarity(words.attach(base.model())) == 1.0


@pytest.mark.parametrize("inner", [LORA, {"method": "fish"}], ids=["lora", "fish"])
def test_a_mask_is_the_inner_methods_but_for_the_heads_entries(
    inner: dict[str, Any], base: Base, capsys: pytest.CaptureFixture[str]
) -> None:
    model = base.model()
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    attached = imsm(inner).attach_masked(model, some_mask(model), None)
    assert "entries of the mask are of the output head, which stays the base's" in capsys.readouterr().err
    assert not any(p.requires_grad for name, p in attached.named_parameters() if "lm_head" in name)
    assert sum(p.requires_grad for p in attached.parameters()) > 3
    with pytest.raises(UserError, match="inner method 'sk_tuning' can use no parameter mask"):
        imsm(WORDS).attach_masked(base.model(), some_mask(base.model()), None)


def test_the_chosen_entries_of_an_adapter_move_and_no_others(base: Base, tmp_path: Path) -> None:
    """A selection hands its adapter on, and the inner method trains entries of it; all else of it stays."""
    warmup = Warmup("lora", Lora(rank=2, alpha=4.0), ShortTraining(steps=3, learning_rate=0.01, batch_size=4))
    choice = ChoiceJob("s", "fish", FishSelector(num_parameters=60), 0, fact_rows().head(8), warmup=warmup)
    choose_seed(choice, base, tmp_path / "seed-0", tmp_path / "work")
    selected = open_selection(tmp_path / "seed-0")
    method, adapter = imsm({"method": "fish"}), tmp_path / "adapter"
    train_seed(job(base, method, mask=selected.mask, start=selected.adapter), base, adapter, tmp_path / "train")
    assert selected.adapter is not None
    before, after = (load_file(folder / ADAPTER_WEIGHTS) for folder in (selected.adapter, adapter))
    changed = sum(int((after[name] != tensor).sum()) for name, tensor in before.items())
    assert 0 < changed <= 60
    assert read_json(adapter / "adapter_config.json")["inner"]["peft_type"] == "LORA"
    assert merge_seed(method, adapter, base, tmp_path / "merged", fact_rows().head(4), 2)["trained"] <= 1e-5


def test_it_does_not_fold(base: Base) -> None:
    method = imsm()
    assert not method.folds
    with pytest.raises(UserError, match="no weight computes it; it stays a composed artefact"):
        method.fold(method.attach(base.model()))


def test_the_model_with_both_memories_off_is_the_teacher(base: Base) -> None:
    inputs = base.task.inputs([Encoded.running([1, 5, 9, 30]), Encoded.running([7, 8, 2])])
    pristine = first_outputs(base.model(), inputs).detach()
    model = imsm(gate_rank=2).attach(base.model())
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1
    assert isinstance(choose_teacher(model, base, inputs, pristine), AdapterOff)


@pytest.mark.parametrize(
    "preserve",
    [
        {"anchor": {"weight": 1.0}},
        {"anchor": {"weight": 1.0, "of": "parameters"}},
        {"distill": {"on": "self", "weight": 1.0}},
    ],
    ids=["anchor", "of parameters", "distill"],
)
def test_what_a_run_keeps_reaches_the_inner_method(preserve: dict[str, Any], base: Base, tmp_path: Path) -> None:
    own = {"self": [Encoded.running([1, 5, 9, 30, 12]), Encoded.running([7, 8, 2, 9])]}
    ids = {name: [str(i) for i in range(len(rows))] for name, rows in own.items()}
    material = Material(own, ids) if "distill" in preserve else Material({}, {})
    made = {}
    for name, keeps in (("plain", None), ("kept", Preserve.model_validate(preserve))):
        given = job(base, imsm(), preserve=keeps, material=None if keeps is None else material)
        train_seed(given, base, tmp_path / name, tmp_path / f"{name}-work")
        made[name] = load_seed(given.method, tmp_path / name, base)
    moved = [
        torch.cat([p.flatten() for name, p in model.named_parameters() if ".lora_B." in name]).norm()
        for model in made.values()
    ]
    assert moved[1] != moved[0]
    if "anchor" in preserve:
        assert moved[1] < moved[0]


def faults(run: dict[str, Any], **sections: Any) -> list[str]:
    raw = copy.deepcopy(DEFAULT)
    raw["runs"]["lora"] = {"selection": "clean", "method": "imsm", "seeds": [0], **run}
    raw["mixtures"] = {}
    return [str(fault) for fault in faults_of({**raw, **sections}, deep=True) if "lora" in str(fault)]


@pytest.mark.parametrize("name", [name for name in INNERS if name != "fish"])
def test_every_inner_method_is_taken(name: str) -> None:
    assert faults({"inner": INNERS[name]}) == []


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ({}, "runs.lora.inner: got nothing; allowed: the method of the tuned memory"),
        ({"inner": {"method": "lor"}}, "runs.lora.inner.method: got 'lor'; allowed: fish"),
        ({"inner": {"method": "lora", "options": {"rank": 0}}}, "runs.lora.inner.options"),
        ({"inner": {"method": "imsm"}}, "runs.lora.inner.method: got 'imsm'; allowed: a method with none inside"),
        ({"inner": {"method": "full"}}, "runs.lora.inner.method: got 'full', which trains the base itself"),
        ({"inner": LORA, "options": {"inner": LORA}}, "runs.lora.options.inner"),
        ({"inner": {"method": "fish"}}, "which makes no parameter mask; fish trains one"),
        (
            {"inner": {"method": "peft", "type": "prefix_tuning", "options": {"num_virtual_tokens": 3}}},
            "runs.lora.inner.type: got 'prefix_tuning', which cannot be woven: its prompts stand outside",
        ),
        (
            {"inner": {"method": "peft", "type": "lora", "options": {"init_lora_weights": "pissa"}}},
            "init_lora_weights: pissa: it rewrites the base's weights",
        ),
        ({"inner": {"method": "peft", "type": "xlora"}}, "runs.lora.inner.type: got 'xlora'"),
        (
            {"inner": LORA, "options": {"gate": "fixed", "gate_rank": 4}},
            "runs.lora.options.gate_rank: got an option of",
        ),
        ({"inner": LORA, "options": {"gate_rank": 0}}, "runs.lora.options.gate_rank"),
        (
            {"inner": WORDS, "preserve": {"anchor": {"weight": 1.0}}},
            "runs.lora.preserve.anchor.of: got 'change', and sk_tuning with these options gives no matrix",
        ),
        ({"method": "lora", "options": LORA["options"], "inner": LORA}, "allowed: only with `method: imsm`"),
    ],
)
def test_faults_are_said_where_they_stand(run: dict[str, Any], words: str) -> None:
    assert any(words in fault for fault in faults(run)), faults(run)


def test_a_classification_and_a_mixture_of_it_are_refused() -> None:
    task = {"kind": "classification", "labels": ["bad", "good"]}
    assert any(
        "'imsm' for a classification, whose model is an encoder" in f for f in faults({"inner": LORA}, task=task)
    )
    mixed = {"mix": {"from": ["lora"], "strategy": "interpolate", "options": {"alpha": 0.5}}}
    assert any("allowed: runs whose method folds" in f for f in faults({"inner": LORA}, mixtures=mixed))
