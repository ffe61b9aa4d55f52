"""How far a tuned model's next-token distribution lies from the pristine base's, on texts and prompts.

    kl = mean over tokens of KL(p || q)        p: the base's distribution of the next token, q: the tuned model's

Both models read the same batch one after the other. Neither's distribution outlives the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch

from knowtune.common.progress import progress
from knowtune.models.forward import forward
from knowtune.models.hidden_states import require_room, room
from knowtune.text.batches import batches_by_length
from knowtune.text.encode_rows import encode_prompts, encode_texts, layouts_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def text_divergences(
    model: torch.nn.Module,
    pristine: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    batch_size: int,
    max_tokens: int,
    label: str,
) -> list[float]:
    """Return the mean divergence of each text over the tokens whose loss is measured: each after the first.

    Args:
        model: the tuned one, in evaluation mode.
        pristine: the base in the same mode; the same object gives 0 without a forward pass.
        tokenizer: the base's.
        texts: general text.
        batch_size: texts per forward pass.
        max_tokens: where texts are cut.
        label: what the progress bar says.
    """
    ids = encode_texts(tokenizer, texts, min(max_tokens, room(model, tokenizer)))
    return [total / max(num, 1) for total, num in _divergences(model, pristine, ids, batch_size, 1, label)]


def prompt_divergences(
    model: torch.nn.Module,
    pristine: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rows: pd.DataFrame,
    batch_size: int,
    label: str,
) -> pd.DataFrame:
    """Return the mean divergence over each prompt, the distribution of an answer's first token included.

    Args: as of `text_divergences`; rows with prompt and layout.

    Returns:
        `prompt_kl` and `prompt_tokens`, over how many tokens, on the index of `rows`.
    """
    ids = encode_prompts(tokenizer, rows["prompt"].tolist(), layouts_of(rows))
    require_room(model, tokenizer, [len(row) for row in ids])
    sums = _divergences(model, pristine, ids, batch_size, 0, label)
    table = {"prompt_kl": [total / max(num, 1) for total, num in sums], "prompt_tokens": [num for _, num in sums]}
    return pd.DataFrame(table, index=rows.index)


@torch.inference_mode()
def _divergences(
    model: torch.nn.Module,
    pristine: torch.nn.Module,
    ids: list[list[int]],
    batch_size: int,
    left_out: int,
    label: str,
) -> list[tuple[float, int]]:
    """Sum the divergence over each sequence's positions, but for the last `left_out`; and count them."""
    counts = [max(len(row) - left_out, 0) for row in ids]
    totals = [0.0] * len(ids)
    if model is not pristine:
        some = [i for i, num in enumerate(counts) if num]
        for batch in progress(batches_by_length([len(ids[i]) for i in some], batch_size), label):
            rows = [some[i] for i in batch]
            log_p, log_q = (forward(m, [ids[i] for i in rows]).log_softmax(-1) for m in (pristine, model))
            each = torch.nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True)
            each = each.masked_fill_(log_p.isneginf(), 0).sum(-1)  # what the base never writes says nothing
            for i, nats in zip(rows, each, strict=True):  # nats: (seq,)
                totals[i] = float(nats[: counts[i]].double().sum())
    return list(zip(totals, counts, strict=True))
