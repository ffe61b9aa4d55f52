"""Knowledge: a causal language model goes on from a prompt with the target, or with another right answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from knowtune.models.admission import claimed_context
from knowtune.tasks.base import Task
from knowtune.text.cells import texts_of

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SEEN_AGAIN = 1e9  # parameters; above, the base stage alone looks whether a model is causal


class Knowledge(Task):
    """Prompt -> target, learned token by token; right when every token of an answer is the model's first choice."""

    learned: ClassVar[str] = "generalisation"
    lost: ClassVar[str] = "forgotten"

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

    def inputs(self, encoded: Sequence[Any]) -> dict[str, torch.Tensor]:
        """Pad on the right, masked."""
        from knowtune.text.batches import pad

        return {
            "input_ids": pad([row.input_ids for row in encoded], 0),
            "attention_mask": pad([[1] * len(row.input_ids) for row in encoded], 0),
        }

    def targets(self, encoded: Sequence[Any]) -> torch.Tensor:
        """-100 on what is not learned  # (batch, seq)."""
        from knowtune.text.batches import pad
        from knowtune.text.encoded import IGNORE_INDEX

        return pad([row.labels for row in encoded], IGNORE_INDEX)

    def item_losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of each learned token in nats, at the place of the token before it  # (batch, seq)."""
        from knowtune.text.batches import token_losses

        return token_losses(logits, targets)

    def item_mask(self, targets: torch.Tensor) -> torch.Tensor:
        """True where the token after this one is learned  # (batch, seq)."""
        from torch.nn.functional import pad

        from knowtune.text.encoded import IGNORE_INDEX

        return pad(targets[:, 1:] != IGNORE_INDEX, (0, 1))

    def expected_targets(
        self, logits: torch.Tensor, targets: torch.Tensor, draws: int, generators: Sequence[torch.Generator]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Tokens drawn from the model at every learned place, after the true tokens before it."""
        import torch

        from knowtune.text.encoded import IGNORE_INDEX

        learned = targets[:, 1:] != IGNORE_INDEX
        shares = logits[:, -targets.shape[1] :][:, :-1][learned].float().softmax(-1).cpu()  # (learned, vocabulary)
        of_rows = list(zip(shares.split(learned.sum(1).tolist()), generators, strict=True))
        for _ in range(draws):
            drawn = targets.clone()
            tokens = [torch.multinomial(own, 1, generator=lot).squeeze(1) for own, lot in of_rows if len(own)]
            drawn[:, 1:][learned] = torch.cat(tokens).to(targets.device)
            yield drawn, torch.full((len(targets),), 1 / draws, device=targets.device)

    def judge(
        self,
        model: torch.nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        rows: pd.DataFrame,
        batch_size: int,
        label: str,
    ) -> pd.DataFrame:
        """Judge each row by its best right answer, and the old one beside it; see `tasks.teacher_forcing`."""
        from knowtune.tasks.teacher_forcing import judge_answers, judge_old

        judged = judge_answers(model, tokenizer, rows, batch_size, label)
        if not rows["old"].any():
            return judged
        return judged.assign(old_loss=judge_old(model, tokenizer, rows, batch_size, f"{label}, old answers"))

    def read_texts(
        self,
        model: torch.nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        texts: Sequence[str],
        batch_size: int,
        max_tokens: int,
        label: str,
    ) -> tuple[pd.DataFrame, torch.Tensor | None]:
        """`loss` in nats per token; no states."""
        from knowtune.tasks.teacher_forcing import read_texts

        return read_texts(model, tokenizer, texts, batch_size, max_tokens, label), None

    def answers(
        self,
        model: torch.nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        rows: pd.DataFrame,
        batch_size: int,
        max_new_tokens: int,
        label: str,
        extra_tokens: int | None = None,
    ) -> list[str]:
        """Let the model go on greedily; equal prompts are asked once."""
        from knowtune.models.generate import greedy_answers
        from knowtune.text.encode_rows import layouts_of

        limits = [max_new_tokens] * len(rows)
        if extra_tokens is not None:
            limits = [min(max_new_tokens, max(1, n + extra_tokens)) for n in _longest_right(tokenizer, rows)]
        return greedy_answers(model, tokenizer, rows["prompt"].tolist(), batch_size, limits, label, layouts_of(rows))

    def distances(
        self,
        vectors: Callable[[Sequence[str]], torch.Tensor],
        tokenizer: PreTrainedTokenizerBase,
        answers: Sequence[str],
        targets: Sequence[Sequence[str]],
        extra_tokens: int,
    ) -> list[float]:
        """Compare answers, cut to the length of what is right."""
        from functools import partial

        from knowtune.semantics.distance import cut_to_length, text_distances

        return text_distances(vectors, answers, targets, partial(cut_to_length, tokenizer, extra_tokens))


def _longest_right(tokenizer: PreTrainedTokenizerBase, rows: pd.DataFrame) -> list[int]:
    """Count the tokens of each row's longest right answer, where it stands in the text."""
    from knowtune.tasks.answers import right_answers
    from knowtune.text.encode_rows import encode_rows, layouts_of

    rights = right_answers(rows)
    places = [place for place, right in enumerate(rights) for _ in right]
    asked = rows.iloc[places].assign(target=[one for right in rights for one in right])
    encoded = iter(encode_rows(tokenizer, asked["prompt"], asked["target"], layouts_of(asked)))
    spans = [[next(encoded) for _ in right] for right in rights]
    return [max(row.target_end - row.target_start for row in found) for found in spans]


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
