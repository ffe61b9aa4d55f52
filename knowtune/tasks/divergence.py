"""How far a tuned model's next-token distribution lies from the pristine base's, on prompts and on text.

    kl = mean over tokens of KL(p || q)        p: the base's distribution of the next token, q: the tuned model's

Both models read the same batch one after the other. Neither's distribution outlives the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import torch

from knowtune.common.progress import progress
from knowtune.models.forward import forward
from knowtune.models.hidden_states import require_room
from knowtune.text.batches import batches_by_length
from knowtune.text.encode_rows import encode_prompts, layouts_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHUNK = 2**18  # numbers that are compared at a time: they stay in a processor's cache


@torch.inference_mode()
def prompt_divergences(
    model: torch.nn.Module,
    pristine: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rows: pd.DataFrame,
    batch_size: int,
    label: str,
) -> pd.DataFrame:
    """Return the mean divergence over each prompt, the distribution of an answer's first token included.

    Args:
        model: the tuned one, in evaluation mode.
        pristine: the base in the same mode; the same object gives 0 without a forward pass.
        tokenizer: the base's.
        rows: with prompt, and layout where they are not plain.
        batch_size: prompts per forward pass.
        label: what the progress bar says.

    Returns:
        `prompt_kl` and `prompt_tokens`, over how many tokens, on the index of `rows`.
    """
    ids = encode_prompts(tokenizer, rows["prompt"].tolist(), layouts_of(rows))
    require_room(model, tokenizer, [len(row) for row in ids])
    means = [0.0] * len(ids)
    if model is not pristine:
        for batch in progress(batches_by_length([len(row) for row in ids], batch_size), label):
            chosen = [ids[i] for i in batch]
            each = token_divergences(forward(model, chosen), forward(pristine, chosen))
            for i, nats in zip(batch, each, strict=True):
                means[i] = mean_over(nats, len(ids[i]))
    return pd.DataFrame({"prompt_kl": means, "prompt_tokens": [len(row) for row in ids]}, index=rows.index)


def token_divergences(logits: torch.Tensor, of_base: torch.Tensor) -> torch.Tensor:
    """Return KL(p || q) at each position of the tuned model's logits  # (batch, seq, vocabulary) -> (batch, seq)."""
    size = max(1, CHUNK // logits.shape[-1])
    parts = zip(logits.flatten(0, -2).split(size), of_base.flatten(0, -2).split(size), strict=True)
    return torch.cat([_divergences(tuned, base) for tuned, base in parts]).view(logits.shape[:-1])


def _divergences(logits: torch.Tensor, of_base: torch.Tensor) -> torch.Tensor:
    """Return KL(p || q) of each row  # (rows, vocabulary) -> (rows,)."""
    log_q, log_p = logits.log_softmax(-1), of_base.log_softmax(-1)
    each = torch.nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True)
    return each.masked_fill_(log_p.isneginf(), 0).sum(-1)  # what the base never writes says nothing


def mean_over(nats: torch.Tensor, num: int) -> float:
    """Average the first positions of a row; 0 where there are none  # (seq,)."""
    return float(nats[:num].double().sum()) / max(num, 1)
