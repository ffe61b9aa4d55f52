from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.gradients.sketches import Sketcher, sketch_rows
from knowtune.text.encoded import Encoded, Labelled
from tests.unit.helpers import REVIEWS, TASK, equal_states, fact_rows, review_rows, state


def sketched(
    model: Any, rows: Any, task: Any = TASK, dimensions: int = 256, seed: int = 0, size: int = 8
) -> torch.Tensor:
    with Sketcher(model, dimensions, seed) as sketcher:
        return sketch_rows(sketcher, rows, task, size, "sketches")


def cosines(vectors: torch.Tensor) -> torch.Tensor:
    unit = vectors.double() / vectors.double().norm(dim=1, keepdim=True)
    return unit @ unit.T


def exact(model: Any, rows: Any, task: Any = TASK) -> torch.Tensor:
    """Give the rows' whole gradients over what is sketched, one autograd pass each  # (rows, parameters)."""
    weights = [layer.weight for layer in Sketcher(model, 8, 0).layers.values()]
    found = []
    for row in rows:
        loss = task.objective.losses(model(**task.inputs([row])).logits, task.objective.targets([row])).sum()
        gradients = torch.autograd.grad(loss, weights)
        found.append(torch.cat([g.flatten() for g in gradients]))
    return torch.stack(found)


@pytest.fixture
def facts(tokenizer: Any) -> list[Encoded]:
    return list(TASK.encode(tokenizer, fact_rows()))


def gpt2() -> Any:
    torch.manual_seed(0)
    size = {"n_embd": 48, "n_layer": 2, "n_head": 2, "vocab_size": 320, "n_positions": 64, "initializer_range": 0.2}
    return GPT2LMHeadModel(GPT2Config(**size, bos_token_id=0, eos_token_id=1)).eval()


class TestCosines:
    """Estimated over 20 seeds, against whole gradients by autograd."""

    def errors(self, model: Any, rows: Any, task: Any, dimensions: int) -> torch.Tensor:
        true = cosines(exact(model, rows, task))
        off = ~torch.eye(len(rows), dtype=torch.bool)
        seeds = [cosines(sketched(model, rows, task, dimensions, seed)) - true for seed in range(20)]
        return torch.stack(seeds)[:, off]  # (seeds, pairs)

    def test_they_are_those_of_the_gradients(self, base: Base, facts: list[Encoded]) -> None:
        model = base.model()
        true = cosines(exact(model, facts[:10]))
        assert float(true.min()) < 0.1 < 0.5 < float(true[true < 0.99].max()), "gradients of many directions"
        found = self.errors(model, facts[:10], TASK, 256)
        assert float(found.square().mean().sqrt()) < 0.1
        assert float(found.mean().abs()) < 0.03, "no error on one side"

    def test_more_dimensions_smaller_errors(self, base: Base, facts: list[Encoded]) -> None:
        model = base.model()
        sizes = [float(self.errors(model, facts[:6], TASK, n).square().mean().sqrt()) for n in (16, 64, 256)]
        assert sizes[1] < sizes[0] * 0.7
        assert sizes[2] < sizes[1] * 0.7

    def test_a_convolution_of_width_one(self, facts: list[Encoded]) -> None:
        found = self.errors(gpt2(), facts[:6], TASK, 256)
        assert float(found.square().mean().sqrt()) < 0.1

    @pytest.mark.parametrize("name", ["encoder", "decoder"])
    def test_classifiers(self, name: str, request: pytest.FixtureRequest) -> None:
        chosen: Base = request.getfixturevalue(name)
        torch.manual_seed(0)
        rows = list(REVIEWS.encode(chosen.tokenizer(), review_rows()))[:6]
        found = self.errors(chosen.model(), rows, REVIEWS, 256)
        assert float(found.square().mean().sqrt()) < 0.1

    def test_lengths_too(self, base: Base, facts: list[Encoded]) -> None:
        true = exact(base.model(), facts[:6]).norm(dim=1)
        found = torch.stack([sketched(base.model(), facts[:6], seed=seed).norm(dim=1) for seed in range(10)])
        assert torch.allclose(found.square().mean(0).sqrt(), true, rtol=0.1)


def test_small_layers_are_not_projected_twice(base: Base, facts: list[Encoded]) -> None:
    """With sides longer than the layers all that is random is the last sum; then one seed is enough."""
    true = cosines(exact(base.model(), facts[:6]))
    assert torch.allclose(cosines(sketched(base.model(), facts[:6], dimensions=2**15)), true, atol=0.03)


def test_batches_and_padding_do_not_matter(base: Base, facts: list[Encoded]) -> None:
    model = base.model()
    alone = sketched(model, facts, size=1)
    for size in (3, 8, 100):
        assert torch.allclose(sketched(model, facts, size=size), alone, rtol=1e-4, atol=1e-5 * float(alone.abs().max()))
    turned = sketched(model, facts[::-1], size=5)
    assert torch.allclose(turned.flip(0), alone, rtol=1e-4, atol=1e-5 * float(alone.abs().max()))


def test_the_seed_decides(base: Base, facts: list[Encoded]) -> None:
    model = base.model()
    one = sketched(model, facts, seed=1)
    torch.manual_seed(9)
    assert torch.equal(sketched(base.model(), facts, seed=1), one)
    assert not torch.allclose(sketched(model, facts, seed=2), one)


@pytest.mark.parametrize("training", [False, True])
def test_the_model_is_left_as_it_is(base: Base, facts: list[Encoded], training: bool) -> None:
    model = base.model().train(training)
    first = next(model.parameters())
    first.grad = torch.ones_like(first)
    first.requires_grad = False
    weights, cache = state(model), model.config.use_cache
    torch.manual_seed(4)
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="stop"), Sketcher(model, 64, 0) as sketcher:
        sketch_rows(sketcher, facts, TASK, 8, "x")
        raise RuntimeError("stop")
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training is training
    assert [p.requires_grad for p in model.parameters()] == [i > 0 for i in range(len(list(model.parameters())))]
    assert torch.equal(first.grad, torch.ones_like(first))
    assert all(p.grad is None for p in list(model.parameters())[1:])
    assert equal_states(state(model), weights)
    assert model.config.use_cache == cache
    assert not any(module._forward_hooks for module in model.modules())


def test_the_output_head_is_left_out(base: Base) -> None:
    names = Sketcher(base.model(), 64, 0).layers
    assert len(names) == 2 * 7
    assert "lm_head" not in names


def test_a_row_without_a_target_teaches_nothing(base: Base, facts: list[Encoded]) -> None:
    empty = replace(facts[0], target_end=facts[0].target_start)
    found = sketched(base.model(), [empty, *facts[1:3]])
    assert (found[0] == 0).all()
    assert (found[1:] != 0).any(1).all()
    assert torch.equal(sketched(base.model(), [empty]), torch.zeros(1, 256))
    assert sketched(base.model(), []).shape == (0, 256)


def test_a_label_that_is_missing(encoder: Base) -> None:
    rows = [Labelled([2, 4, 3], None, float("nan")), Labelled([2, 4, 5, 3], None, 1.0)]
    found = sketched(encoder.model(), rows, REVIEWS)
    assert (found[0] == 0).all()
    assert (found[1] != 0).any()


def test_a_gradient_that_is_not_finite_names_the_row(base: Base, facts: list[Encoded]) -> None:
    model, token = base.model(), facts[3].input_ids[5]

    def spoil(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return output.masked_fill((inputs[0] == token).unsqueeze(-1), float("nan"))

    model.get_input_embeddings().register_forward_hook(spoil)
    hit = [i for i, row in enumerate(facts) if token in row.input_ids]
    assert 0 < hit[0] < 4, "not the first row, and not all"
    ids = fact_rows()["id"].tolist()
    with Sketcher(model, 64, 0) as sketcher, pytest.raises(UserError) as caught:
        sketch_rows(sketcher, facts, TASK, 8, "sketches", ids)
    assert str(caught.value) == (
        f"sketches: the gradient of row {ids[hit[0]]!r} is not finite; look at this row, or use float32 (compute.dtype)"
    )


def test_a_layer_that_mixes_rows_is_worked_through_one_row_at_a_time(base: Base, facts: list[Encoded]) -> None:
    model = base.model()
    alone = sketched(model, facts, size=1)
    layer = model.model.layers[0].mlp.up_proj  # type: ignore[union-attr]

    class Turned(torch.nn.Module):
        """Hands the rows of a batch on in another order, as experts might."""

        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.inner(x.flip(0)).flip(0)
            return found

    model.model.layers[0].mlp.up_proj = Turned(layer)  # type: ignore[union-attr, arg-type]
    names = {"model.layers.0.mlp.up_proj.inner": "model.layers.0.mlp.up_proj"}
    with Sketcher(model, 256, 0) as sketcher:
        text = {name: names.get(name, name) for name in sketcher.layers}
        generator = sketcher._generator
        sketcher._generator = lambda name, part: generator(text[name], part)  # type: ignore[method-assign]
        found = sketch_rows(sketcher, facts, TASK, 8, "x")
    assert torch.allclose(found, alone, rtol=1e-4, atol=1e-5 * float(alone.abs().max()))
