"""Knowledge: a causal language model goes on from a prompt with the target, or with another right answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from knowtune.models.admission import claimed_context
from knowtune.tasks.base import Task
from knowtune.text.cells import texts_of

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from knowtune.tasks.evaluator import Evaluator
    from knowtune.tasks.objective import Objective

SEEN_AGAIN = 1e9  # parameters; above, the base stage alone looks whether a model is causal


class Knowledge(Task):
    """Prompt -> target, learned token by token; right when every token of an answer is the model's first choice."""

    learned: ClassVar[str] = "generalisation"
    lost: ClassVar[str] = "forgotten"
    writes: ClassVar[bool] = True

    @property
    def objective(self) -> Objective:
        """Cross-entropy of each token of the target, and of the end token."""
        from knowtune.tasks.next_token import NextToken

        return NextToken()

    @property
    def evaluator(self) -> Evaluator:
        """Teacher forcing, and greedy answers."""
        from knowtune.tasks.language_model_evaluator import LanguageModelEvaluator

        return LanguageModelEvaluator()

    def load_model(self, folder: Path, **options: Any) -> PreTrainedModel:
        """Load a causal language model, whole; that it is causal is seen again, unless it is large."""
        from transformers import AutoModelForCausalLM

        from knowtune.models.load import from_checkpoint

        model: PreTrainedModel = from_checkpoint(AutoModelForCausalLM, folder, new_head=False, **options)
        model.eval()
        if not options.get("trained") and sum(parameter.numel() for parameter in model.parameters()) <= SEEN_AGAIN:
            _require_causal(model, folder, claimed_context(model.config.get_text_config().to_dict()))
        return model

    def require_fit(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, context: int | None
    ) -> None:
        """Refuse a model that reads what it is to predict: it would seem to know everything, and could say nothing."""
        _require_causal(model, folder, context)

    def read_target(self, cell: Any) -> list[str]:
        """Read one answer, or a list of them."""
        return texts_of(cell)

    def encode(self, tokenizer: PreTrainedTokenizerBase, rows: pd.DataFrame) -> Sequence[Any]:
        """Prompt and target as one text."""
        from knowtune.text.encode_rows import encode_rows, layouts_of

        return encode_rows(tokenizer, rows["prompt"], rows["target"], layouts_of(rows))

    def encode_texts(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int) -> Sequence[Any]:
        """Running text, of which each token after the first is learned."""
        from knowtune.text.encode_rows import encode_texts
        from knowtune.text.encoded import Encoded

        return [Encoded.running(ids) for ids in encode_texts(tokenizer, texts, max_tokens)]


def _require_causal(model: PreTrainedModel, folder: Path, context: int | None) -> None:
    """Refuse a model that reads what it is to predict."""
    from knowtune.common.errors import UserError
    from knowtune.models.hidden_states import leaks

    if leaks(model, context):
        raise UserError(
            f"{folder}: {type(model).__name__} is not causal: what it gives for a token changes with the tokens "
            "after it, so that it would read what it is to predict; give a model that writes text, set "
            "is_decoder: true (or is_causal: true) in config.json if this one was trained to, or make it a "
            "classification"
        )
