"""What a model does, seen by passes of a few tokens before hours are spent on it: whether it can do its task at all.

The base stage and `make new` load a model once, run it and look; nothing is concluded from names.

causal      a later token changes nothing before it; else a language model reads what it is to predict
alone       a row of a classifier gives the same whatever rows stand beside it
context     see `knowtune.models.context_length`
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.checkpoints.base import load_model
from knowtune.common.errors import UserError
from knowtune.models.checkpoint_files import first_line, load_tokenizer
from knowtune.models.compute import Compute
from knowtune.models.context_length import usable_context, what_can_be_used

if TYPE_CHECKING:
    from knowtune.tasks.base import Task


def probe(card: dict[str, Any], folder: Path, compute: Compute, task: Task) -> dict[str, Any]:
    """Run a base, and give its card with the context that can be used.

    Args:
        card: of the base, see `knowtune.checkpoints.cards.make_card`.
        folder: with its weights.
        compute: where it runs.
        task: what it is for.

    Raises:
        UserError: it cannot be loaded or run, its numbers are not finite, or it cannot do the task.
    """
    named, claimed = card["architecture"], card["context"]
    try:
        model = load_model(folder, compute, task)
        named = type(model).__name__
        context = usable_context(model, claimed)
        task.require_fit(model, load_tokenizer(folder), folder, context)
    except UserError:
        raise
    except Exception as error:  # whatever a file that is not as it should be leads a model to
        raise UserError(f"{folder}: {named} cannot read a text: {first_line(error)}; look at config.json") from error
    notes = list(card["notes"])
    if context != claimed:
        notes.append(what_can_be_used(claimed, context))
    return {**card, "context": context, "notes": notes}
