"""Scores a tiny model's rows in as many processes as it is started in; rank 0 saves diagonal and traces.

`distributed_script` runs it when it has trained.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from knowtune.gradients.fisher import fisher_diagonal, parameters_in, row_traces
from knowtune.gradients.options import Scoring
from knowtune.tasks.knowledge import Knowledge
from knowtune.text.encoded import Encoded


def main(out: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    size = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    model = LlamaForCausalLM(
        LlamaConfig(**size, num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=True)
    )
    generator = torch.Generator().manual_seed(1)
    rows = [Encoded(torch.randint(0, 50, (4 + i % 5,), generator=generator).tolist(), 2, 4 + i % 5) for i in range(23)]
    given = (model, rows, Knowledge(), parameters_in(model), Scoring(batch_size=3))
    diagonal = fisher_diagonal(*given, work=out.with_suffix(".work"))
    traces = row_traces(*given)
    expected = fisher_diagonal(*given[:-1], Scoring(batch_size=3, labels="expected", draws=2))
    if os.environ.get("RANK", "0") == "0":
        torch.save({**diagonal, "traces": traces, **{f"expected {name}": f for name, f in expected.items()}}, out)
