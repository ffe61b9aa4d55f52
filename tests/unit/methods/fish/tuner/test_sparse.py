from __future__ import annotations

import pytest
import torch

from knowtune.methods.fish.tuner.functions import SparseEmbedding, SparseLinear
from knowtune.methods.fish.tuner.sparse import Entries, write_temporarily


def entries_of(shape, kind, seed=0):
    generator = torch.Generator().manual_seed(seed)
    size = shape[0] * shape[1]
    flat = torch.arange(size)
    chosen = {
        "one": torch.tensor([size - 1]),
        "few": torch.randperm(size, generator=generator)[: size // 50].sort().values,
        "many": torch.randperm(size, generator=generator)[: size // 2].sort().values,
        "all": flat,
        "rows": flat[(flat // shape[1]) % 5 == 1],
        "columns": flat[(flat % shape[1]) % 7 == 2],
        "block": flat[((flat // shape[1]) < 9) & ((flat % shape[1]) > 11)],
    }[kind]
    return Entries(chosen, torch.Size(shape))


KINDS = ["one", "few", "many", "all", "rows", "columns", "block"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [1, 70, 600])
def test_both_ways_give_the_product_at_the_entries(kind, tokens, monkeypatch):
    monkeypatch.setattr("knowtune.methods.fish.tuner.sparse.TILE_BYTES", 2000)  # so that there are several tiles
    entries = entries_of((60, 40), kind)
    left, right = torch.randn(tokens, 60, dtype=torch.float64), torch.randn(tokens, 40, dtype=torch.float64)
    expected = (left.t() @ right).flatten()[entries.indices]
    assert torch.allclose(entries.by_dots(left, right), expected)
    assert torch.allclose(entries.by_tiles(left, right), expected)
    assert torch.allclose(entries.gradient(left, right), expected)


def test_few_entries_are_sampled_and_many_are_not():
    assert entries_of((400, 300), "few").sampled and not entries_of((400, 300), "many").sampled
    assert not entries_of((400, 300), "rows").sampled  # a whole small matrix is left


def test_half_precision_takes_the_dense_way():
    entries = entries_of((400, 300), "few")
    left, right = torch.randn(9, 400).bfloat16(), torch.randn(9, 300).bfloat16()
    assert torch.equal(entries.gradient(left, right), entries.by_tiles(left, right))


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_linear_has_the_gradients_of_the_dense_operation(shape, transposed, with_bias):
    torch.manual_seed(0)
    weight = torch.randn(6, 8, dtype=torch.float64)
    num_in, num_out = (6, 8) if transposed else (8, 6)
    entries = entries_of((6, 8), "many")
    values = torch.randn(24, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(num_out, dtype=torch.float64, requires_grad=True) if with_bias else None
    x = torch.randn(*shape[:-1], num_in, dtype=torch.float64, requires_grad=True)
    kept = weight.clone()

    def dense(x, values, bias):
        matrix = weight.flatten().index_add(0, entries.indices, values).view(6, 8)
        y = x @ (matrix if transposed else matrix.t())
        return y if bias is None else y + bias

    def sparse(x, values, bias):
        return SparseLinear.apply(x, values, bias, weight, entries, transposed)

    assert torch.allclose(sparse(x, values, bias), dense(x, values, bias))
    inputs = [tensor for tensor in (x, values, bias) if tensor is not None]
    y = sparse(x, values, bias)
    delta = torch.randn_like(y)
    for mine, theirs in zip(torch.autograd.grad(y, inputs, delta),
                            torch.autograd.grad(dense(x, values, bias), inputs, delta), strict=True):  # fmt: skip
        assert torch.allclose(mine, theirs)
    assert torch.equal(weight, kept)


@pytest.mark.parametrize("ids", [[1, 1, 1], [0, 9, 3, 9, 0], [2]], ids=str)
@pytest.mark.parametrize("padding", [None, 9])
@pytest.mark.parametrize("kind", ["one", "few", "many", "all"])
def test_embedding_has_the_gradients_of_the_dense_operation(ids, padding, kind):
    torch.manual_seed(0)
    weight = torch.randn(10, 16, dtype=torch.float64)
    entries = entries_of((10, 16), kind)
    values = torch.randn(len(entries.indices), dtype=torch.float64, requires_grad=True)
    matrix = weight.flatten().index_add(0, entries.indices, values).view(10, 16)
    positions = torch.tensor([ids, ids])
    y = SparseEmbedding.apply(positions, values, weight, entries, padding)
    dense = torch.nn.functional.embedding(positions, matrix, padding_idx=padding)
    assert torch.equal(y, dense)
    delta = torch.randn_like(y)
    mine, theirs = torch.autograd.grad(y, values, delta), torch.autograd.grad(dense, values, delta)
    assert torch.allclose(mine[0], theirs[0])


def test_a_written_weight_is_what_it_was_afterwards_also_for_autograd():
    weight = torch.randn(4, 4)
    kept, version = weight.clone(), weight._version
    with pytest.raises(KeyError), write_temporarily(weight, torch.tensor([1, 5]), torch.tensor([0.1, 0.2])) as changed:
        assert not torch.equal(changed, kept)
        raise KeyError
    assert torch.equal(weight, kept) and weight._version == version
