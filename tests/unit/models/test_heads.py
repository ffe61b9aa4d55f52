from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from knowtune.checkpoints.base import Base, load_model
from knowtune.checkpoints.cards import ADAPTER_CARD, MERGED
from knowtune.common.files import read_json, write_json
from knowtune.evaluation.compute_metrics import compute_metrics
from knowtune.evaluation.results import Results, beside_base
from knowtune.merging.fold import load_seed, merge_seed, open_merged
from knowtune.merging.mix import mix
from knowtune.merging.mixtures.average import Average
from knowtune.methods.base import Method
from knowtune.methods.full import Full
from knowtune.methods.lora import Lora
from knowtune.models.forward import batch_inputs
from knowtune.models.heads import head_outputs, pooled_states
from knowtune.tasks.regression import Regression
from knowtune.text.encode_pairs import encode_pairs
from knowtune.text.encoded import Labelled
from knowtune.training.outputs import record_outputs
from tests.unit.helpers import COMPUTE, REVIEWS, encoded, equal_states, review_rows, row, state, table, train

METHODS = {"lora": Lora(rank=4, alpha=8.0), "full": Full()}
RATES = {"lora": 0.01, "full": 0.003}
HEADS = {"encoder": "classifier", "decoder": "score"}
QUICK = {"epochs": 8, "batch_size": 8}
TEXTS = ["the film was good", "bad", "the film was very very long and it is fun .", "one two"]


@pytest.fixture(params=HEADS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def backbone(kind: str, request: pytest.FixtureRequest) -> Base:
    """Give each kind of backbone: an encoder, and a decoder, whose head reads the last token."""
    found: Base = request.getfixturevalue(kind)
    return found


def new_model(base: Base) -> Any:
    torch.manual_seed(0)
    return base.model()


class TestInputs:
    def test_padded_on_the_right_with_the_tokenizers_own_token(self) -> None:
        rows = [Labelled([5, 6, 7], [0, 0, 1], 1.0, 9), Labelled([8], [0], 0.0, 9)]
        assert {name: tensor.tolist() for name, tensor in batch_inputs(rows).items()} == {
            "input_ids": [[5, 6, 7], [8, 9, 9]],
            "attention_mask": [[1, 1, 1], [1, 0, 0]],
            "token_type_ids": [[0, 0, 1], [0, 0, 0]],
        }

    def test_no_segments_where_the_model_knows_none(self) -> None:
        assert set(batch_inputs([Labelled([5], None, 1.0)])) == {"input_ids", "attention_mask"}


class TestHeadOutputs:
    def test_batches_and_padding_do_not_change_them(self, backbone: Base) -> None:
        model, tokenizer = new_model(backbone), backbone.tokenizer()
        rows = REVIEWS.encode(tokenizer, review_rows())
        alone = head_outputs(model, rows, 1, "x")
        assert alone.shape == (24, 2)
        for size in (5, 24):
            assert torch.allclose(head_outputs(model, rows, size, "x"), alone, atol=1e-5)
        assert (alone - alone[0]).abs().max() > 1e-3

    def test_a_decoders_head_reads_the_last_token(self, decoder: Base) -> None:
        model, tokenizer = new_model(decoder), decoder.tokenizer()
        rows = encode_pairs(tokenizer, TEXTS, [], [0.0] * 4)
        with torch.inference_mode():
            for row_, found in zip(rows, head_outputs(model, rows, 4, "x"), strict=True):
                last = model.model(torch.tensor([row_.input_ids])).last_hidden_state[0, -1]
                assert torch.allclose(model.score(last), found, atol=1e-5)

    def test_a_decoder_whose_config_knows_no_padding(self, decoder: Base, tmp_path: Path) -> None:
        import shutil

        folder = tmp_path / "copy"
        shutil.copytree(decoder.folder, folder)
        config = {k: v for k, v in read_json(folder / "config.json").items() if k != "pad_token_id"}
        write_json(folder / "config.json", config)
        model, tokenizer = new_model(replace(decoder, folder=folder)), decoder.tokenizer()
        assert model.config.pad_token_id == tokenizer.pad_token_id
        rows = encode_pairs(tokenizer, TEXTS, [], [0.0] * 4)
        expected = head_outputs(new_model(decoder), rows, 1, "x")
        assert torch.allclose(head_outputs(model, rows, 4, "x"), expected, atol=1e-5)

    def test_the_second_text_and_its_segment_count(self, encoder: Base) -> None:
        model, tokenizer = new_model(encoder), encoder.tokenizer()
        pairs = encode_pairs(tokenizer, ["the film"] * 2, ["good", "bad"], [0.0] * 2)
        found = head_outputs(model, pairs, 2, "x")
        with torch.inference_mode():
            expected = model(**tokenizer(["the film"] * 2, ["good", "bad"], return_tensors="pt")).logits
        assert torch.allclose(found, expected, atol=1e-5)
        bare = [replace(row_, segments=[0] * len(row_.input_ids)) for row_ in pairs]
        assert not torch.allclose(head_outputs(model, bare, 2, "x"), found, atol=1e-3)

    def test_no_rows(self, backbone: Base) -> None:
        assert len(head_outputs(new_model(backbone), [], 4, "x")) == 0
        judged = REVIEWS.evaluator.judge(new_model(backbone), backbone.tokenizer(), table(), 4, "x")
        assert (len(judged), judged.columns.tolist()) == (0, ["correct", "loss", "predicted"])


class TestPooledStates:
    def test_the_mean_of_the_last_states_whatever_the_batch(self, backbone: Base) -> None:
        model, tokenizer = new_model(backbone), backbone.tokenizer()
        lengths, found = pooled_states(model, tokenizer, TEXTS, 3, 48, "x")
        for text, length, pooled in zip(TEXTS, lengths, found, strict=True):
            ids = torch.tensor([tokenizer(text)["input_ids"]])
            with torch.inference_mode():
                hidden = model(ids, output_hidden_states=True).hidden_states[-1][0]
            assert length == ids.shape[1] == hidden.shape[0]
            assert torch.allclose(hidden.mean(0), pooled, atol=1e-5)

    def test_long_texts_are_cut(self, backbone: Base) -> None:
        lengths, _ = pooled_states(new_model(backbone), backbone.tokenizer(), ["good " * 60, "bad"], 2, 16, "x")
        assert lengths[0] == 16 > lengths[1]

    def test_no_texts(self, backbone: Base) -> None:
        lengths, states = pooled_states(new_model(backbone), backbone.tokenizer(), [], 2, 16, "x")
        assert (lengths, len(states)) == ([], 0)


def results(model: Any, base: Base) -> Results:
    """Judge reviews and read texts as the stages do."""
    tokenizer, rows = base.tokenizer(), review_rows().assign(kind="generalisation")
    read, states = base.task.evaluator.read_texts(model, tokenizer, TEXTS, 2, 48, "x")
    examples = rows.join(base.task.evaluator.judge(model, tokenizer, rows, 7, "x"))
    return Results(examples, read.assign(id=[str(i) for i in range(len(TEXTS))]), states)


def test_the_base_against_itself_has_forgotten_nothing(backbone: Base) -> None:
    judged = results(new_model(backbone), backbone)
    metrics = compute_metrics(["drift", "similarity_order"], beside_base(judged, judged, backbone.task))
    assert metrics["drift"] == pytest.approx(0, abs=1e-6)
    assert metrics["similarity_order"] == pytest.approx(1)


def test_judging_by_hand(backbone: Base) -> None:
    model, rows = new_model(backbone), review_rows().set_axis(range(7, 31))
    outputs = head_outputs(model, REVIEWS.encode(backbone.tokenizer(), rows), 24, "x")
    found = REVIEWS.evaluator.judge(model, backbone.tokenizer(), rows, 24, "x")
    assert found.index.tolist() == list(range(7, 31))
    assert found["predicted"].tolist() == [("bad", "good")[int(i)] for i in outputs.argmax(1)]
    assert found["correct"].tolist() == (found["predicted"] == rows["target"]).tolist()
    places = [("bad", "good").index(target) for target in rows["target"]]
    assert found["loss"].tolist() == pytest.approx((-outputs.log_softmax(1))[range(24), places].tolist())
    assert REVIEWS.evaluator.answer(model, backbone.tokenizer(), rows, 24, 1, "x") == found["predicted"].tolist()


@pytest.mark.parametrize("method_name", METHODS)
class TestEveryMethod:
    def test_head_and_backbone_are_trained_saved_loaded_and_folded(
        self, method_name: str, kind: str, backbone: Base, work: Path
    ) -> None:
        method, head = METHODS[method_name], HEADS[kind]
        fitted = train(backbone, method, review_rows(), work, **QUICK, learning_rate=RATES[method_name])
        trained = results(fitted.model, backbone)
        assert trained.examples["correct"].mean() > 0.9  # half of them before
        untrained = {name: t for name, t in state(new_model(backbone)).items() if name.startswith(f"{head}.")}
        method.save(fitted.model, work / "saved")
        torch.manual_seed(99)  # another new head than that which was trained
        loaded = method.load(backbone.model(), work / "saved").eval()
        again = results(loaded, backbone)
        assert again.examples.equals(trained.examples)
        assert again.states is not None and trained.states is not None and torch.equal(again.states, trained.states)
        folded = state(method.fold(loaded))
        assert set(folded) == set(state(new_model(backbone)))
        assert all(not torch.equal(folded[name], tensor) for name, tensor in untrained.items())

    def test_merged_it_computes_the_same(self, method_name: str, backbone: Base, work: Path) -> None:
        method = METHODS[method_name]
        source = adapter(backbone, method, method_name, work)
        found = merge_seed(method, source, backbone, work / "merged", review_rows(), 5)
        assert found["num_rows"] == 24
        assert found["largest"] < 1e-4
        torch.manual_seed(99)
        one, two = (
            results(m, backbone) for m in (open_merged(work / "merged", backbone), load_seed(method, source, backbone))
        )
        assert one.examples["predicted"].tolist() == two.examples["predicted"].tolist()
        judged = beside_base(one, results(new_model(backbone), backbone), backbone.task)
        metrics = compute_metrics(["accuracy", "drift", "similarity_order"], judged)
        assert metrics["accuracy"] > 0.9
        assert metrics["drift"] > 1e-4


def adapter(base: Base, method: Method, name: str, folder: Path) -> Path:
    fitted = train(base, method, review_rows(), folder / "work", **QUICK, learning_rate=RATES[name])
    record_outputs(fitted.model, base.task, encoded(base, review_rows()).rows, folder / "adapter")
    method.save(fitted.model, folder / "adapter")
    card = {"base_digest": base.digest, "method": name, "options": method.model_dump(), "weights_digest": "w"}
    write_json(folder / "adapter" / ADAPTER_CARD, card)
    return folder / "adapter"


def test_a_mixture_of_classifiers_is_one(backbone: Base, tmp_path: Path) -> None:
    folders = []
    for name, method in METHODS.items():
        source = adapter(backbone, method, name, tmp_path / name)
        folders.append(tmp_path / name / "seed-0")
        merge_seed(method, source, backbone, folders[-1], review_rows().head(4), 4)
    mix(Average(), folders, [1.0, 1.0], backbone, tmp_path / "mixed", 0)
    one, two, mixed = (state(load_model(folder, COMPUTE, REVIEWS)) for folder in (*folders, tmp_path / "mixed"))
    assert read_json(tmp_path / "mixed" / MERGED)["kind"] == "mixed"
    assert all(torch.allclose(mixed[name], (one[name] + two[name]) / 2, atol=1e-5) for name in mixed)
    assert not equal_states(one, two)


def test_scores_are_learned(encoder: Base, work: Path) -> None:
    base = replace(encoder, task=Regression())
    rows = table(*(row(str(i), "very " * (i % 5) + "good", f"{i % 5}.5") for i in range(20)))
    fitted = train(base, Full(), rows, work, epochs=12, learning_rate=0.005)
    judged = base.task.evaluator.judge(fitted.model, base.tokenizer(), rows, 20, "x")
    assert judged["loss"].mean() < 0.5  # 2 is what the best constant reaches
    assert judged["loss"].tolist() == pytest.approx(
        [(float(p) - float(t)) ** 2 for p, t in zip(judged["predicted"], rows["target"], strict=True)], abs=1e-3
    )
