"""Sequences that a language model writes itself, drawn from its own distribution.

Whatever a checkpoint's generation settings are: no top-k, no top-p, no penalty. By inverse transform sampling, token t
of sequence n is the first whose cumulated probability exceeds u_nt:

    w_nt = min { v : sum_{j <= v} p(j | w_n,<t)^(1 / T) / Z > u_nt }

    u_nt  uniform in [0, 1), of a generator that seed and n alone start
    T     the temperature; Z normalises

So a sequence depends on the model, the seed and its own number, and on the batch that it is in by rounding alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from knowtune.common.errors import UserError
from knowtune.models.decoder import Decoder, split_into_batches
from knowtune.models.generate import plain_settings
from knowtune.models.hidden_states import evaluating, room

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@torch.inference_mode()
def sample_sequences(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    starts: Sequence[Sequence[int]],
    numbers: Sequence[int],
    max_tokens: int,
    temperature: float,
    seed: int,
) -> list[list[int]]:
    """Let the model go on from token ids; all at a time.

    Args:
        model: left as it is, torch's generators included.
        tokenizer: the base's.
        starts: what each sequence begins with, at least one token.
        numbers: n, one for each.
        max_tokens: of a sequence, its start included.
        temperature: T.
        seed: of all sequences.

    Returns:
        The sequences, their starts included; with the end token where one was written.

    Raises:
        UserError: the model's probabilities are not finite.
    """
    drawn = np.stack([np.random.default_rng((seed, number)).random(max_tokens) for number in numbers])
    uniform = torch.from_numpy(drawn).to(next(model.parameters()).device)  # (sequences, max_tokens), float64
    ends = [max_tokens - len(start) for start in starts]
    written: list[list[int]] = [[] for _ in starts]
    with evaluating(model), plain_settings(model):
        decoder = Decoder.of(model, tokenizer)
        for batch in split_into_batches(decoder, starts, ends, len(starts), room(model, tokenizer)):
            own = uniform[batch]

            def choose(
                logits: torch.Tensor, rows: torch.Tensor, position: int, own: torch.Tensor = own
            ) -> torch.Tensor:
                return draw_tokens(logits / temperature, own[rows, position])

            answers = decoder.decode([starts[i] for i in batch], [ends[i] for i in batch], choose=choose).tolist()
            stops = set(decoder.stops.tolist())
            for i, answer in zip(batch, answers, strict=True):
                end = next((at + 1 for at, token in enumerate(answer[: ends[i]]) if token in stops), ends[i])
                written[i] = [*starts[i], *answer[:end]]
    return written


def draw_tokens(logits: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Draw a token of each row by the inverse of its cumulated probabilities.

    Args:
        logits: (rows, vocabulary).
        uniform: in [0, 1), float64  # (rows,)

    Raises:
        UserError: the probabilities are not finite.
    """
    cumulated = logits.double().softmax(-1).cumsum(-1)
    total = cumulated[:, -1:]
    if not bool(torch.isfinite(total).all()):
        raise UserError("rehearse: the base's probabilities are not finite; try compute.dtype: float32")
    below = total.nextafter(torch.zeros_like(total))  # rounding must not reach past the last token that may be drawn
    return torch.searchsorted(cumulated, (uniform[:, None] * total).minimum(below), right=True).squeeze(1)
