"""What classification and regression share: a model with a head on the pooled text, and its states on general text.

The head of a base that has none is new: its random start follows torch's global seed, and it is always trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from knowtune.common.progress import progress
from knowtune.models.checkpoint_files import load_tokenizer
from knowtune.models.forward import batch_inputs
from knowtune.models.hidden_states import room
from knowtune.models.load import from_checkpoint, new_modules
from knowtune.text.batches import batches_by_length
from knowtune.text.encode_pairs import encode_pairs
from knowtune.text.encoded import Labelled

HEADS = ("classifier", "score")  # what transformers calls a classifier's head, and PEFT trains and saves whole

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_classifier(folder: Path, num_labels: int, **options: Any) -> PreTrainedModel:
    """Load a backbone with a head of `num_labels` outputs."""
    from transformers import AutoModelForSequenceClassification

    model: Any = from_checkpoint(
        AutoModelForSequenceClassification, folder, new_head=True, num_labels=num_labels, **options
    )
    text = model.config.get_text_config()
    if text.pad_token_id is None:  # without one, transformers takes no batch
        text.pad_token_id = load_tokenizer(folder).pad_token_id or 0
    _read_at_the_last_token(model)
    loaded: PreTrainedModel = model
    return loaded


def _read_at_the_last_token(model: Any) -> None:
    """Let a decoder's head read the last token by the mask.

    transformers looks for the last token that is not the config's padding token: another one than the tokenizer pads
    with, one that ends texts too, or virtual tokens before the text, and what a row gives depends on those beside it.
    Here the state of the last token stands at every place that the head may look at. Heads that get one state of a
    whole text, and heads that choose it themselves, are left alone.
    """
    masks: list[torch.Tensor | None] = [None]

    def keep(module: torch.nn.Module, args: Any, given: dict[str, Any]) -> None:
        masks[0] = given.get("attention_mask")

    def spread(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        states, mask = args[0], masks[0]
        if mask is None or mask.ndim != 2 or states.ndim != 3:
            return None
        mask = mask[:, -states.shape[1] :]  # prefixes of the cache have a mask, but no states
        places = torch.arange(mask.shape[1], device=mask.device)
        last = (places * mask.to(places)).argmax(1)  # (batch,)
        rows = torch.arange(len(states), device=states.device)
        return (states[rows, last].unsqueeze(1).expand_as(states),)

    heads = [getattr(model, name, None) for name in HEADS]
    for head in heads:
        if isinstance(head, torch.nn.Linear):
            model.base_model.register_forward_pre_hook(keep, with_kwargs=True)
            head.register_forward_pre_hook(spread)


@torch.inference_mode()
def head_outputs(model: Any, encoded: Sequence[Labelled], batch_size: int, label: str) -> torch.Tensor:
    """Return the head's outputs in float32, in the order of the rows  # (row, output)."""
    device = next(model.parameters()).device
    outputs: list[torch.Tensor | None] = [None] * len(encoded)
    for batch in progress(batches_by_length([len(row.input_ids) for row in encoded], batch_size), label):
        inputs = batch_inputs([encoded[i] for i in batch])
        logits = model(**{name: tensor.to(device) for name, tensor in inputs.items()}).logits.float().cpu()
        for i, row in zip(batch, logits, strict=True):
            outputs[i] = row
    return torch.stack([row for row in outputs if row is not None]) if encoded else torch.zeros(0, 1)


def depends_on_batch(model: Any, tokenizer: PreTrainedTokenizerBase, context: int | None) -> bool:
    """Say whether a row's outputs, or a text's states, are others beside a longer row than alone, beyond rounding."""
    texts, longest = ["1 a", "2 b c d e f g h"], min(context or 32, 32)
    rows = encode_pairs(tokenizer, texts, [], [0.0] * len(texts), max_tokens=longest)
    alone, beside = (head_outputs(model, rows, size, "") for size in (1, 2))
    one, two = (pooled_states(model, tokenizer, texts, size, longest, "")[1] for size in (1, 2))
    eps = torch.finfo(next(model.parameters()).dtype).eps ** 0.5
    pairs = ((alone, beside), (one, two))
    return not all(float((a - b).abs().max()) <= eps * float(a.abs().max()) for a, b in pairs)  # NaN does


@torch.inference_mode()
def pooled_states(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    batch_size: int,
    max_tokens: int,
    label: str,
) -> tuple[list[int], torch.Tensor]:
    """Read texts, cut at `max_tokens`.

    Returns:
        The number of tokens of each text, and the mean of its last hidden states  # (text, hidden), float32.
    """
    if not len(texts):
        return [], torch.zeros(0, 1)
    device = next(model.parameters()).device
    whole = encode_pairs(tokenizer, texts, [], [0.0] * len(texts), max_tokens=min(max_tokens, room(model, tokenizer)))
    states: list[torch.Tensor | None] = [None] * len(whole)
    for batch in progress(batches_by_length([len(row.input_ids) for row in whole], batch_size), label):
        inputs = {name: t.to(device) for name, t in batch_inputs([whole[i] for i in batch]).items()}
        mask = inputs["attention_mask"].unsqueeze(-1).float()  # (batch, seq, 1)
        hidden = model(**inputs, output_hidden_states=True).hidden_states[-1]
        hidden = hidden[:, -mask.shape[1] :].float()  # prompt-learning methods may put virtual tokens first
        for i, row in zip(batch, ((hidden * mask).sum(1) / mask.sum(1)).cpu(), strict=True):
            states[i] = row
    return [len(row.input_ids) for row in whole], torch.stack([row for row in states if row is not None])


def head_parameters(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Name the parameters of a classifier's head and of all else that its checkpoint has not; none for other models."""
    plain: Any = model.get_base_model() if hasattr(model, "peft_config") else model  # type: ignore[operator]
    if not type(plain).__name__.endswith("ForSequenceClassification"):
        return {}
    heads = {*HEADS, *(module.rpartition(".")[2] for module in new_modules(plain))}
    named = {name: p for name, p in model.named_parameters() if set(name.split(".")) & heads}
    return {name: p for name, p in named.items() if "original_module" not in name.split(".")}
