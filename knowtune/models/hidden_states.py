"""What a model makes of texts: the mean of its last hidden states, read without leaving a trace in the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from knowtune.common.errors import UserError
from knowtune.models.context_length import LENGTH, plain_ids
from knowtune.text.batches import batches_by_length, pad

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode for a while; afterwards every module is in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def room(model: Any, tokenizer: PreTrainedTokenizerBase) -> int:
    """Count the tokens that a row may have: the base's context, less an adapter's virtual tokens."""
    virtual = getattr(getattr(model, "active_peft_config", None), "num_virtual_tokens", None)
    return int(min(tokenizer.model_max_length, 2**31)) - int(virtual or 0)


def end_ids(model: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Give the tokens after which an answer has ended: the model's own, and the tokenizer's."""
    configured = model.generation_config.eos_token_id if getattr(model, "generation_config", None) is not None else None
    own = configured if isinstance(configured, list | tuple) else [configured]
    return sorted({int(token) for token in (*own, tokenizer.eos_token_id) if token is not None})


def require_room(model: Any, tokenizer: PreTrainedTokenizerBase, lengths: Sequence[int]) -> None:
    """Refuse rows of more tokens than a model can read.

    Raises:
        UserError: says how many, and what is read.
    """
    longest, space = max(lengths, default=0), room(model, tokenizer)
    if longest > space:
        virtual = int(min(tokenizer.model_max_length, 2**31)) - space
        less = f" ({virtual} positions of its context are its virtual tokens')" if virtual else ""
        raise UserError(f"a text has {longest} tokens, and the model reads {space} at most{less}; give a shorter one")


@torch.inference_mode()
def mean_states(
    model: Any, ids: Sequence[Sequence[int]], counted: Sequence[Sequence[int]], batch_size: int
) -> torch.Tensor:
    """Average the last hidden states of each text over its counted tokens.

    Args:
        model: of transformers, with or without a head; left as it is.
        ids: tokens of each text.
        counted: 1 for a token that counts, 0 for one that is only read, as special tokens are.
        batch_size: texts per forward pass, of like length, padded on the right; no result depends on it but by
            rounding.

    Returns:
        float32, on the CPU; zeros where no token counts  # (text, hidden).
    """
    device = next(model.parameters()).device
    pooled: dict[int, torch.Tensor] = {}
    some = [i for i, row in enumerate(counted) if any(row)]
    with evaluating(model):
        for batch in batches_by_length([len(ids[i]) for i in some], batch_size):
            rows = [some[i] for i in batch]
            mask = pad([[1] * len(ids[i]) for i in rows], 0).to(device)
            input_ids = pad([ids[i] for i in rows], 0).to(device)
            states = model.base_model(input_ids=input_ids, attention_mask=mask).last_hidden_state.float()
            weights = pad([counted[i] for i in rows], 0).to(device).unsqueeze(-1).float()  # (batch, seq, 1)
            means = (states * weights).sum(1) / weights.sum(1)  # (batch, hidden)
            pooled.update(zip(rows, means.cpu(), strict=True))
    empty = torch.zeros(model.config.get_text_config().hidden_size)
    return torch.stack([pooled.get(i, empty) for i in range(len(ids))]) if len(ids) else empty[None][:0]


@torch.inference_mode()
def leaks(model: Any, context: int | None) -> bool:
    """Say whether what stands later in a text shows before it: in a causal model it does not.

    Two texts are read together, and then each of them with other tokens in its place. What the second text changes in
    the first is rounding: experts take tokens of all texts together.

    Raises:
        UserError: the model's numbers are not finite.
    """
    ids = plain_ids(model, 4, min(LENGTH, context or LENGTH))
    start = ids.shape[1] // 2  # of what is changed
    one, beside, other, another = ids
    later = torch.cat([one[:start], other[start:]])
    first, changed, neighbour = (
        model(input_ids=(pair := torch.stack(rows)), attention_mask=torch.ones_like(pair)).logits[0, :start].float()
        for rows in ((one, beside), (later, beside), (one, another))
    )
    if not bool(torch.isfinite(first).all()):
        dtype = next(model.parameters()).dtype
        raise UserError(
            f"{type(model).__name__}: what it computes in {dtype} is not finite; try compute.dtype: float32"
        )
    rounding = float((first - neighbour).abs().max())
    width = float((first - first.mean(-1, keepdim=True)).abs().max())
    bound = 16 * rounding + 4 * torch.finfo(next(model.parameters()).dtype).eps * width
    return bool((first - changed).abs().max() > bound)
