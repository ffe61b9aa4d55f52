"""Judge rows by teacher forcing: what a model gets right, row by row, and its loss on general text.

A row is right when every token of its target is the model's first choice after the tokens before it: just what greedy
decoding would write, found with one forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch

from knowtune.common.progress import progress
from knowtune.models.hidden_states import end_ids, require_room, room
from knowtune.tasks.divergence import mean_over, token_divergences
from knowtune.text.batches import batches_by_length, pad
from knowtune.text.encode_rows import encode_rows, encode_texts, layouts_of
from knowtune.text.encoded import IGNORE_INDEX

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from knowtune.text.encoded import Encoded
from knowtune.models.forward import forward


@torch.inference_mode()
def judge_rows(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, rows: pd.DataFrame, batch_size: int, label: str
) -> pd.DataFrame:
    """Judge each row's target.

    Args:
        model: in evaluation mode; left as it is.
        tokenizer: the base's.
        rows: with prompt and target, and layout where they are not plain.
        batch_size: rows per forward pass; results depend on it in the last bits.
        label: what the progress bar says.

    Returns:
        `correct` (bool), `loss` (mean nats per target token) and `answer` (the target where greedy decoding would write
        just it and end, else None: the pass does not show what would be written), on the index of `rows`.
    """
    encoded = encode_rows(tokenizer, rows["prompt"], rows["target"], layouts_of(rows))
    require_room(model, tokenizer, [len(row.input_ids) for row in encoded])
    stops = set(end_ids(model, tokenizer))
    correct, loss, ended = [False] * len(encoded), [0.0] * len(encoded), [False] * len(encoded)
    for batch in progress(batches_by_length([len(e.input_ids) for e in encoded], batch_size), label):
        chosen = [encoded[i] for i in batch]
        logits = forward(model, [e.input_ids for e in chosen], [e.labels for e in chosen])
        verdicts = zip(*judge_logits(logits, chosen), strict=True)
        for i, verdict in zip(batch, verdicts, strict=True):
            correct[i], loss[i], ended[i] = verdict
            if stops & set(encoded[i].input_ids[encoded[i].target_start : encoded[i].target_end - 1]):
                correct[i] = ended[i] = False  # decoding would end within the target
    judged = pd.DataFrame({"correct": pd.Series(correct, dtype=bool), "loss": loss}).set_index(rows.index)
    return judged.assign(answer=rows["target"].where(pd.Series(ended, index=rows.index, dtype=bool)))


def judge_answers(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, rows: pd.DataFrame, batch_size: int, label: str
) -> pd.DataFrame:
    """Judge each row by the best of its right answers: right when one of them is, the loss that of the likeliest.

    Returns:
        As `judge_rows`.
    """
    if not rows["aliases"].any():
        return judge_rows(model, tokenizer, rows, batch_size, label)
    right = pd.concat([rows["target"], rows["aliases"].str.split("\n").explode()])  # each on the index of its row
    right = right[right != ""]
    repeated = rows.loc[right.index].assign(target=right.tolist()).reset_index(drop=True)
    judged = judge_rows(model, tokenizer, repeated, batch_size, label).set_index(right.index)
    grouped = judged.groupby(level=0, sort=False)
    best = {"correct": grouped["correct"].any(), "loss": grouped["loss"].min(), "answer": grouped["answer"].first()}
    return pd.DataFrame(best).reindex(rows.index)


def judge_old(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, rows: pd.DataFrame, batch_size: int, label: str
) -> pd.Series[float]:
    """Return the mean nats per token of each row's old answer; of several that of the likeliest, NaN where none is."""
    with_old = rows[rows["old"] != ""]
    answers = with_old["old"].str.split("\n")
    old = with_old.assign(target=answers.str[0], aliases=answers.str[1:].str.join("\n"))
    return judge_answers(model, tokenizer, old, batch_size, label)["loss"].reindex(rows.index)


def judge_logits(logits: torch.Tensor, rows: list[Encoded]) -> tuple[list[bool], list[float], list[bool]]:
    """Judge targets from logits, of all positions or of those from the first target's on  # (batch, read, vocabulary).

    Returns:
        Per row: whether every target token is the first choice, the mean nats per target token, and whether the end
        token is the first choice after them.
    """
    start = max(len(row.input_ids) for row in rows) - logits.shape[1] + 1  # the token that the first logits predict
    ids = pad([row.input_ids for row in rows], 0)[:, start:]
    mask = pad([row.target_mask for row in rows], False)[:, start:]
    ends = pad([[i == row.target_end for i in range(len(row.input_ids))] for row in rows], False)[:, start:]
    logits = logits[:, :-1]
    nats = -logits.log_softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)  # (batch, read)
    first = logits.argmax(-1) == ids
    right = (first | ~mask).all(1) & mask.any(1)
    mean = (nats * mask).double().sum(1) / mask.sum(1).clamp(min=1)
    return right.tolist(), mean.tolist(), (right & (first & ends).any(1)).tolist()


@torch.inference_mode()
def read_texts(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    batch_size: int,
    max_tokens: int,
    label: str,
    pristine: torch.nn.Module | None = None,
) -> pd.DataFrame:
    """Return `loss` (nats per token) and `num_tokens` of each text, cut at `max_tokens`.

    And `kl` beside the base, where it is given: the mean divergence over the tokens whose loss is measured. The model
    itself in the base's place gives 0 without a forward pass.
    """
    ids = encode_texts(tokenizer, texts, min(max_tokens, room(model, tokenizer)))
    loss, count, kl = [0.0] * len(ids), [0] * len(ids), [0.0] * len(ids)
    for batch in progress(batches_by_length([len(row) for row in ids], batch_size), label):
        chosen = [ids[i] for i in batch]
        logits = forward(model, chosen)[:, :-1]
        if pristine is not None and pristine is not model:
            divergences = token_divergences(logits, forward(pristine, chosen)[:, :-1])
            for i, nats in zip(batch, divergences, strict=True):
                kl[i] = mean_over(nats, len(ids[i]) - 1)
        labels = pad(chosen, IGNORE_INDEX)[:, 1:]
        losses = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE_INDEX, reduction="none"
        ).view(labels.shape)
        for i, total in zip(batch, losses.double().sum(1).tolist(), strict=True):
            count[i] = max(len(ids[i]) - 1, 1)
            loss[i] = total / count[i]
    return pd.DataFrame({"loss": loss, "num_tokens": count, **({} if pristine is None else {"kl": kl})})
