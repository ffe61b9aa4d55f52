"""Trains tiny models in as many processes as it is started in; rank 0 saves what they learned.

One with weights and a penalty; one by KaSA, with its penalties; one with replay and distillation; one by rows
and one by tokens that are weighed again while it is trained.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pandas as pd
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from knowtune.checkpoints.base import Base
from knowtune.data.contract import ROW_COLUMNS
from knowtune.methods.full import Full
from knowtune.methods.kasa.method import Kasa
from knowtune.models.compute import Compute
from knowtune.preserve.options import Preserve
from knowtune.preserve.preservation import open_preservation
from knowtune.preserve.sources import Material
from knowtune.semantics.representations.input_embedding import InputEmbedding
from knowtune.tasks.knowledge import Knowledge
from knowtune.text.encoded import Encoded
from knowtune.training.dataset import Rows
from knowtune.training.fit import Training, fit, seed_everything
from knowtune.training.recipe import Recipe
from knowtune.training.reweighting import Plan, open_reweighting
from knowtune.training.weights import Weighting

SIZE = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}


class Penalised(Full):
    """Full fine-tuning with an L2 penalty."""

    def penalty(self, model: torch.nn.Module) -> torch.Tensor:
        return 0.01 * torch.stack([p.square().sum() for p in model.parameters()]).sum()


class Tiny(Base):
    """A base of random weights, that needs no folder."""

    def model(self) -> LlamaForCausalLM:
        seed_everything(0)
        return LlamaForCausalLM(LlamaConfig(**SIZE, num_attention_heads=2, num_key_value_heads=2)).eval()

    def tokenizer(self) -> PreTrainedTokenizerFast:
        words = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, **{f"w{i}": i for i in range(2, 50)}}, "<s>"))
        words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def recipe_for(world: int) -> Recipe:
    return Recipe(
        epochs=3,
        batch_size=8 // world,
        gradient_accumulation_steps=1,
        learning_rate=0.01,
        lr_scheduler_type="constant",
        warmup_steps=0,
        weight_decay=0.0,
        max_grad_norm=1e9,
        logging_steps=1,
        save_steps=100,
        load_best_model_at_end=False,
    )


def weighed(granularity: str, world: int, work: Path) -> dict[str, torch.Tensor]:
    """Train on rows that are weighed again after every step but the last."""
    base = Tiny({}, work, Compute(), Knowledge())
    tokenizer = base.tokenizer()
    texts = [(f"w{i + 2} " * (1 + i % 3), f"w{2 * i + 3} w{30 - i}") for i in range(24)]  # three steps an epoch
    cells = [[str(i), "f", "r", "s", "0", prompt, "", target, "", "", ""] for i, (prompt, target) in enumerate(texts)]
    table = pd.DataFrame(cells, columns=ROW_COLUMNS).assign(distance=[0.05 * i for i in range(24)])
    rows = Rows(base.task.encode(tokenizer, table), table["id"].tolist())
    options = {"alpha": 1.0, "granularity": granularity, "refresh_steps": 1, "batch_size": 3}
    plan = Plan(Weighting(**options), InputEmbedding(), 3, 4, "runs.x.reweight")
    reweighting = open_reweighting(plan, table, rows, base, tokenizer, "weighed")
    model, recipe = Full().attach(base.model()), recipe_for(world)
    plain = torch.optim.SGD(model.parameters(), lr=0.2)  # Adam would make much of gradients that are but rounding
    training = Training(
        rows=rows, recipe=recipe, compute=base.compute, task=base.task,
        seed=0, work=work, reweighting=reweighting, optimizer=plain,
    )  # fmt: skip
    fitted = fit(model, training)
    assert reweighting.measured_at == 8
    found = {**fitted.model.state_dict(), "weights": rows.weights, "distances": torch.from_numpy(reweighting.distances)}
    return {f"{granularity}.{name}": value for name, value in found.items()}


def preserved(world: int, work: Path) -> dict[str, torch.Tensor]:
    """Train on rows beside sequences that are replayed and others that are compared with the base."""
    base = Tiny({"context": 64}, work, Compute(), Knowledge())
    generator = torch.Generator().manual_seed(2)
    drawn = [torch.randint(0, 50, (4 + i % 5,), generator=generator).tolist() for i in range(34)]
    kept = {"known": [Encoded(ids, 2, len(ids)) for ids in drawn[:5]], "self": list(map(Encoded.running, drawn[5:10]))}
    material = Material(kept, {source: list("abcde") for source in kept})
    options = {"replay": {"from": "known", "share": 0.4}, "distill": {"on": "self", "share": 0.1, "weight": 3.0}}
    preservation = open_preservation(Preserve.model_validate(options), material, base, 0, "preserved")
    assert preservation is not None
    model = base.model()
    preservation.see_base(model)
    model = Full().attach(model)
    preservation.see_attached(model)
    rows = Rows([Encoded(ids, 2, len(ids)) for ids in drawn[10:]], [str(i) for i in range(24)])
    training = Training(
        rows=rows, recipe=recipe_for(world), compute=base.compute, task=base.task, seed=0, work=work,
        preservation=preservation, optimizer=torch.optim.SGD(model.parameters(), lr=0.2),
    )  # fmt: skip
    fitted = fit(model, training)
    losses = {split: [float(p["loss"]) for p in fitted.curve if p["split"] == split] for split in ("replay", "distill")}
    found = {**fitted.model.state_dict(), **{split: torch.tensor(values) for split, values in losses.items()}}
    return {f"preserved.{name}": value for name, value in found.items()}


def kasa(world: int, data: Rows, work: Path) -> dict[str, torch.Tensor]:
    """Train by KaSA, with penalties that are large beside the task's loss."""
    base, method = Tiny({}, work, Compute(), Knowledge()), Kasa(rank=2, alpha=4.0, beta=0.5, gamma=0.5)
    model = method.attach(base.model())
    plain = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.2)
    training = Training(
        rows=data, recipe=recipe_for(world), compute=base.compute, task=base.task,
        seed=0, work=work, method=method, optimizer=plain,
    )  # fmt: skip
    return {f"kasa.{name}": value for name, value in fit(model, training).model.state_dict().items()}


def main(out: Path) -> None:
    torch.set_num_threads(1)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    seed_everything(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZE, num_attention_heads=2, num_key_value_heads=2))
    generator = torch.Generator().manual_seed(1)
    rows = [Encoded(torch.randint(0, 50, (4 + i,), generator=generator).tolist(), 2, 4 + i) for i in range(24)]
    data = Rows(rows, [str(i) for i in range(24)], [1.0 + i % 3 for i in range(24)])
    method, model = Penalised(), Penalised().attach(model)
    training = Training(
        rows=data, recipe=recipe_for(world), compute=Compute(), task=Knowledge(),
        seed=0, work=out.with_suffix(".work"), method=method,
    )  # fmt: skip
    fitted = fit(model, training)
    found = dict(fitted.model.state_dict())
    for granularity in ("example", "token"):
        found |= weighed(granularity, world, out.with_suffix(f".{granularity}"))
    found |= preserved(world, out.with_suffix(".preserved"))
    found |= kasa(world, data, out.with_suffix(".kasa"))
    if os.environ.get("RANK", "0") == "0":
        torch.save({name: value.clone() for name, value in found.items()}, out)


if __name__ == "__main__":
    from distributed_scoring_script import main as score

    main(Path(sys.argv[1]))
    score(Path(sys.argv[1]).with_suffix(".scores"))  # here too: a process takes seconds to start
