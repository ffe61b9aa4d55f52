"""What a model does, seen by passes of a few tokens before hours are spent on it: whether it can do its task at all.

The base stage and `make new` load a model once, run it and look; nothing is concluded from names.

causal      a later token changes nothing before it; else a language model reads what it is to predict
alone       a row of a classifier gives the same whatever rows stand beside it
context     where positions are rows of a table, a text may be as long as the rows after the first one that is used
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from knowtune.base import Compute, load_model
from knowtune.checkpoints import first_line, load_tokenizer
from knowtune.errors import UserError
from knowtune.states import LENGTH, plain_ids

if TYPE_CHECKING:
    from knowtune.families import Task

SURE = 2e10  # parameters x tokens up to which a text of the whole context is read too, to be sure
LONGEST = 2048  # and tokens up to which, for attention grows with their square


def probe(card: dict[str, Any], folder: Path, compute: Compute, task: Task) -> dict[str, Any]:
    """Run a base, and give its card with the context that can be used.

    Args:
        card: of the base, see `knowtune.base.make_card`.
        folder: with its weights.
        compute: where it runs.
        task: what it is for.

    Raises:
        UserError: it cannot be loaded or run, its numbers are not finite, or it cannot do the task.
    """
    model = load_model(folder, compute, task)
    try:
        claimed = card["context"]
        context = usable_context(model, claimed)
        task.require_fit(model, load_tokenizer(folder), folder, context)
    except UserError:
        raise
    except Exception as error:  # whatever a file that is not as it should be leads a model to
        named = type(model).__name__
        raise UserError(f"{folder}: {named} cannot read a text: {first_line(error)}; look at config.json") from error
    notes = list(card["notes"])
    if context != claimed:
        notes.append(f"config.json says {claimed} tokens of context; {context} can be used")
    return {**card, "context": context, "notes": notes}


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
    found: int = min([claimed or 2**31, *tables.rooms])
    if found == 2**31:
        return None
    size = sum(parameter.numel() for parameter in model.parameters())
    if ids.device.type == "cpu" and found <= LONGEST and size * found <= SURE:
        found = _longest_read(model, ids.shape[1], found)
    return found


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
