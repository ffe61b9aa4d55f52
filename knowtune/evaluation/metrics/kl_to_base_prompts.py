"""A predictor of forgetting: how far the model's distribution on the new task's prompts lies from the base's."""

from __future__ import annotations

from typing import ClassVar

from knowtune.evaluation.metrics.base import Judged, Metric


class KLToBasePrompts(Metric):
    """Mean forward divergence KL(base || tuned) per token of the prompts of new facts in other paraphrases.

    Shenfeld et al. (arXiv 2509.04259, of which we read the abstract alone) find that the divergence from the base,
    measured on the new task, predicts how much is forgotten. Which prompts and tokens they take we do not know: ours
    are the examples of generalisation, every token of the prompt and the first of the answer.
    """

    tasks: ClassVar[tuple[str, ...]] = ("knowledge",)
    reads_base: ClassVar[tuple[str, ...]] = ("prompts",)
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "nats per token"
    about: ClassVar[str] = "divergence from the base's next-token distribution on prompts of new facts"

    def compute(self, judged: Judged) -> float | None:
        """Average over tokens."""
        examples = judged.of_kind("generalisation")
        if examples.empty:
            return None
        num_tokens = examples["prompt_tokens"]
        return float((examples["prompt_kl"] * num_tokens).sum(skipna=False) / num_tokens.sum())
