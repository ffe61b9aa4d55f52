"""SK-Tuning: virtual tokens that begin at the meaning of a text (Prottasha et al., arXiv 2410.08598), by our tuner.

    prefix:  K_l' = F_l(K_l), V_l' = G_l(V_l)     (K_l, V_l): keys and values that the base has of the text in layer l
    prompt:  E'   = F(E)                          E: embeddings of the text's tokens, before the input's own

The base is frozen. `form: paper` is our reconstruction: F and G add what a matrix makes of the states, zero at first,
so that training begins at the base that has read the text. `form: released` trains the text's embeddings, as
the authors' notebooks do. `knowtune.methods.sk_tuning.tuner` says more.

It changes no weight, so it does not fold: merged, it stays an adapter beside its base.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from knowtune.common.errors import Problem, UserError
from knowtune.methods.base import Method
from knowtune.methods.sk_tuning.options import option_conflicts
from knowtune.registry import Context

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class SkTuning(Method):
    """Train what stands before every input, from a text on."""

    text: str = Field(description="plain words that are read before every input, e.g. what the task is")
    variant: Literal["prefix", "prompt"] = Field(
        default="prefix", description="prefix: keys and values of every layer; prompt: embeddings before the input's"
    )
    form: Literal["paper", "released"] = Field(
        default="paper", description="paper: projections of the text's states; released: embeddings that start at it"
    )
    pooling: Literal["model", "mean", "released"] = Field(
        default="model", description="what a classifier's head reads: as in the model, or a mean"
    )
    shared: bool = Field(default=False, description="paper, prefix: one pair of projections for all layers")
    rank: int | None = Field(default=None, ge=1, le=4096, description="paper: of the projections; null: square ones")
    transform: bool = Field(default=False, description="released: train a matrix beside the embeddings")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout on what stands before the input")

    @property
    def folds(self) -> bool:
        """It changes no weight."""
        return False

    @property
    def computes_change(self) -> bool:
        """It changes no weight."""
        return False

    def num_virtual_tokens(self, tokenizer: PreTrainedTokenizerBase) -> int:
        """Count the text's tokens."""
        from knowtune.methods.sk_tuning.tuner.reading import tokens_of

        return len(tokens_of(tokenizer, self.text))

    def demands(self, context: Context) -> list[Problem]:
        """Refuse an empty text, and options that do nothing here."""
        where, problems = f"{context.where}.options", super().demands(context)
        if not self.text.strip():
            problems.append(
                Problem(f"{where}.text", repr(self.text), "words of plain text, from which training begins")
            )
        if self.pooling != "model" and context.task == "knowledge":
            got = f"{self.pooling!r} for a language model, which has no head that pools"
            problems.append(Problem(f"{where}.pooling", got, "model"))
        conflicts = option_conflicts(self.variant, self.form, self.shared, self.rank, self.transform)
        problems += [Problem(f"{where}.{name}", f"an option {why}", "leave it out") for name, why in conflicts.items()]
        return problems

    def attach(self, model: PreTrainedModel) -> torch.nn.Module:
        """Attach by PEFT; the text becomes tokens by the tokenizer in the model's folder."""
        from knowtune.methods.peft_adapters import attach_adapter, task_type
        from knowtune.methods.sk_tuning.tuner import SkTuningConfig
        from knowtune.methods.sk_tuning.tuner.reading import tokens_of
        from knowtune.models.checkpoint_files import load_tokenizer

        options: dict[str, Any] = self.model_dump()
        ids = tokens_of(load_tokenizer(Path(str(model.name_or_path))), self.text)
        return attach_adapter(model, SkTuningConfig(**options, token_ids=ids, task_type=task_type(model)))

    def save(self, model: torch.nn.Module, folder: Path) -> None:
        """Save in PEFT's layout."""
        from knowtune.methods.peft_adapters import save_adapter

        save_adapter(model, folder)

    def load(self, model: PreTrainedModel, folder: Path) -> torch.nn.Module:
        """Load by PEFT."""
        from knowtune.methods.peft_adapters import load_adapter

        return load_adapter(model, folder)

    def similarity(self, model: torch.nn.Module) -> float:
        """Compare what stands before an input with what the base made of the text: the mean cosine of its tokens."""
        from knowtune.methods.sk_tuning.tuner.similarity import word_similarity

        return word_similarity(model)

    def fold(self, model: torch.nn.Module) -> PreTrainedModel:
        """Refuse."""
        raise UserError("SK-Tuning changes no weight, so it cannot be folded; it stays a composed artefact")
