"""The definition that per-example gradients are tested against: plain autograd, one example after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from knowtune.checkpoints.base import Base
from knowtune.gradients.fisher import fisher_diagonal, parameters_in
from knowtune.gradients.options import Scoring
from knowtune.tasks.base import Task
from knowtune.text.encoded import Encoded
from tests.unit.helpers import encoded, fact_rows

Sums = dict[str, torch.Tensor]


def by_definition(
    model: Any, rows: Sequence[Any], task: Task, parameters: dict[str, torch.nn.Parameter]
) -> tuple[Sums, torch.Tensor]:
    """The mean over rows of squared gradients, and each row's sum of them."""
    total = {name: torch.zeros(p.shape, dtype=torch.float64) for name, p in parameters.items()}
    traces = []
    flags = [(p, p.requires_grad) for p in model.parameters()]
    for p in parameters.values():
        p.requires_grad_(True)
    for row in rows:
        targets = task.objective.targets([row])
        loss = task.objective.losses(model(**task.inputs([row])).logits, targets).sum() / task.objective.num_targets(
            targets
        )
        found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        squares = {n: g.double().square() for n, g in zip(parameters, found, strict=True) if g is not None}
        for name, square in squares.items():
            total[name] += square / len(rows)
        traces.append(sum(float(square.sum()) for square in squares.values()))
    for p, flag in flags:
        p.requires_grad_(flag)
    return total, torch.tensor(traces, dtype=torch.float64)


def assert_equal(found: dict[str, torch.Tensor], expected: Sums, tolerance: float = 1e-5) -> None:
    assert found.keys() == expected.keys()
    noise = 1e-8 * max(
        float(values.norm()) for values in expected.values()
    )  # of what has no influence, but for rounding
    for name, values in expected.items():
        assert found[name].dtype == torch.float32
        error = (found[name].double() - values).norm() / (values.norm() + noise)
        assert error <= tolerance, (name, float(error))


def some_rows(num: int = 9, vocabulary: int = 60) -> list[Encoded]:
    """Rows of several lengths, of which some learn every token and some only the last ones."""
    generator = torch.Generator().manual_seed(3)
    rows = []
    for i in range(num):
        ids = torch.randint(3, vocabulary, (6 + 2 * (i % 4),), generator=generator).tolist()
        rows.append(Encoded(ids, 1 if i % 2 else len(ids) - 2, len(ids)))
    return rows


def small(kind: str) -> Any:
    """A tiny model of an architecture."""
    import transformers as t

    torch.manual_seed(1)
    size = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    llama = {**size, "intermediate_size": 24, "num_key_value_heads": 1, "max_position_embeddings": 32}
    if kind == "gpt2":
        return t.GPT2LMHeadModel(t.GPT2Config(vocab_size=60, n_embd=16, n_layer=2, n_head=2, n_positions=32)).eval()
    if kind == "opt":
        config = t.OPTConfig(**size, ffn_dim=24, max_position_embeddings=40, word_embed_proj_dim=16)
        return t.OPTForCausalLM(config).eval()
    if kind == "qwen2":
        return t.Qwen2ForCausalLM(t.Qwen2Config(**llama, tie_word_embeddings=False)).eval()
    if kind == "mixtral":
        return t.MixtralForCausalLM(t.MixtralConfig(**llama, num_local_experts=2)).eval()
    return t.GemmaForCausalLM(t.GemmaConfig(**llama, head_dim=8)).eval()


def diagonal(
    base: Base, rows: Sequence[Any] | None = None, model: Any = None, **options: Any
) -> dict[str, torch.Tensor]:
    model = base.model() if model is None else model
    scoring = Scoring(**{k: options.pop(k) for k in list(options) if k in Scoring.model_fields})
    given = encoded(base, fact_rows()).rows if rows is None else rows
    return fisher_diagonal(model, given, base.task, parameters_in(model), scoring, **options)
