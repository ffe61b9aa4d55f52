"""Trains a tiny model with weights and a penalty in as many processes as it is started in; rank 0 saves the weights."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from knowtune.base import Compute
from knowtune.encoding import Encoded
from knowtune.methods.full import Full
from knowtune.tasks.knowledge import Knowledge
from knowtune.trainer import Rows
from knowtune.training import Recipe, fit, seed_everything


class Penalised(Full):
    """Full fine-tuning with an L2 penalty."""

    def penalty(self, model: torch.nn.Module) -> torch.Tensor:
        return 0.01 * torch.stack([p.square().sum() for p in model.parameters()]).sum()


def main(out: Path) -> None:
    torch.set_num_threads(1)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    seed_everything(0)
    size = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    model = LlamaForCausalLM(LlamaConfig(**size, num_attention_heads=2, num_key_value_heads=2))
    generator = torch.Generator().manual_seed(1)
    rows = [Encoded(torch.randint(0, 50, (4 + i,), generator=generator).tolist(), 2, 4 + i) for i in range(8)]
    recipe = Recipe(
        epochs=3,
        batch_size=8 // world,
        accumulation=1,
        learning_rate=0.01,
        schedule="constant",
        warmup_steps=0,
        weight_decay=0.0,
        max_grad_norm=1e9,
        log_steps=1,
        checkpoint_steps=100,
        keep_best=False,
    )
    data = Rows(rows, [1.0 + i % 3 for i in range(8)], [str(i) for i in range(8)])
    method = Penalised()
    fitted = fit(
        method.attach(model),
        data,
        None,
        recipe,
        Compute(),
        Knowledge(),
        seed=0,
        work=out.with_suffix(".work"),
        method=method,
    )
    if os.environ.get("RANK", "0") == "0":
        torch.save({name: value.clone() for name, value in fitted.model.state_dict().items()}, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
