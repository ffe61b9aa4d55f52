"""The longest text that a model can read: where positions are rows of a table, as many as follow the first one in use.

What a config says may be more: some models begin after the rows for padding. So the table and its first row are seen
in a pass of a few tokens, whatever the model is called.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

LENGTH = 16  # tokens of a text that a model is tried out on
SURE = 2e10  # parameters x tokens up to which a text of the whole context is read too, to be sure
LONGEST = 2048  # and tokens up to which, for attention grows with their square
SPARE = 1024  # rows that a table of positions may have beyond the context


def readable_context(config: Any, claimed: int | None, shapes: Iterable[tuple[int, ...]]) -> int | None:
    """Find the longest text by a model of one layer, where the weights' shapes allow a table of positions.

    Args:
        config: of transformers.
        claimed: tokens, as it says; None where it says nothing.
        shapes: of the weights.

    Returns:
        Tokens; as claimed where such a model cannot be made: the whole one will show it.
    """
    from transformers import AutoModel

    if claimed is None or not any(len(shape) == 2 and 0 <= shape[0] - claimed <= SPARE for shape in shapes):
        return claimed
    small = copy.deepcopy(config)
    try:
        small.num_hidden_layers = 1
        with torch.random.fork_rng(devices=[]):
            return usable_context(AutoModel.from_config(small).eval(), claimed)
    except Exception:  # lists with an entry a layer, and what else a model may not like
        return claimed


def what_can_be_used(claimed: int | None, context: int | None) -> str:
    """Say how a context differs from what a config says."""
    return f"config.json says {claimed} tokens of context; {context} can be used"


@torch.inference_mode()
def usable_context(model: Any, claimed: int | None) -> int | None:
    """Find the longest text that a model can read.

    Args:
        model: of transformers.
        claimed: tokens, as its config says; None where it says nothing.

    Returns:
        Tokens; None where nothing limits them.
    """
    ids = plain_ids(model, 2, min(LENGTH, claimed or LENGTH))
    with _Tables(model, ids.shape[1]) as tables:
        _read(model, ids)
    readable: int = min([claimed or 2**31, *tables.rooms])
    if readable == 2**31:
        return None
    size = sum(parameter.numel() for parameter in model.parameters())
    if ids.device.type == "cpu" and readable <= LONGEST and size * readable <= SURE:
        readable = _longest_read(model, ids.shape[1], readable)
    return readable


def _read(model: Any, ids: torch.Tensor) -> Any:
    """Run the backbone on rows without padding; of an encoder with a decoder the encoder, which reads the text."""
    backbone = model.base_model.get_encoder() if model.config.is_encoder_decoder else model.base_model
    return backbone(input_ids=ids, attention_mask=torch.ones_like(ids))


def _longest_read(model: Any, known: int, wanted: int) -> int:
    """Find the longest text up to `wanted` that is read without an error, by halving; `known` is read."""
    lengths = [known, wanted]
    length = wanted
    while lengths[0] < lengths[1]:
        try:
            _read(model, plain_ids(model, 1, length))
            lengths[0] = length
        except (IndexError, RuntimeError, ValueError):
            lengths[1] = length - 1
        length = (lengths[0] + lengths[1] + 1) // 2
    return lengths[0]


class _Tables(TorchDispatchMode):
    """Watches which rows of a model's tables are looked up; those of one place after the other are of positions.

    Attributes:
        rooms: of each such table, the rows from the first token's on.
    """

    def __init__(self, model: Any, length: int) -> None:
        """Take a model, and the length of the texts that it is about to read."""
        super().__init__()  # type: ignore[no-untyped-call]
        tensors = [*model.parameters(), *model.buffers()]
        self.own = {tensor.untyped_storage().data_ptr() for tensor in tensors if tensor.is_floating_point()}
        self.length = length
        self.rooms: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look at look-ups, and let everything pass."""
        name = func.overloadpacket.__name__ if hasattr(func, "overloadpacket") else ""
        if name == "embedding":
            self._look(args[0], args[1])
        elif name == "index_select" and args[1] == 0:
            self._look(args[0], args[2])
        elif name == "index" and len(args[1]) == 1:
            self._look(args[0], args[1][0])
        return func(*args, **(kwargs or {}))

    def _look(self, table: torch.Tensor, rows: torch.Tensor) -> None:
        """Note a table where rows of it are of positions."""
        if table.ndim != 2 or rows.is_floating_point() or rows.dtype is torch.bool or rows.shape[-1:] != (self.length,):
            return
        if self.length < 2 or table.untyped_storage().data_ptr() not in self.own:
            return
        places = rows.reshape(-1, self.length)
        first = int(places[0, 0])
        if bool((places == torch.arange(first, first + self.length, device=places.device)).all()):
            self.rooms.append(len(table) - first)


def plain_ids(model: Any, rows: int, length: int) -> torch.Tensor:
    """Draw tokens that stand for themselves: not those with which the config starts, ends or fills texts."""
    config = model.config.get_text_config()
    marks = (getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos", "unk", "sep", "cls", "mask"))
    special = {token for mark in marks for token in (mark if isinstance(mark, list) else [mark])}
    plain = torch.tensor([token for token in range(min(config.vocab_size, 4096)) if token not in special])
    chosen = torch.randint(len(plain), (rows, length), generator=torch.Generator().manual_seed(0))
    return plain[chosen].to(next(model.parameters()).device)
