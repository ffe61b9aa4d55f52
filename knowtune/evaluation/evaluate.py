"""Evaluate models on one set of examples and texts, each beside the pristine base."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from knowtune.evaluation.compute_metrics import compute_metrics, reads_base, reads_whole_answers
from knowtune.evaluation.results import Results, beside_base
from knowtune.evaluation.retention import changes
from knowtune.tasks.answers import Decoding, answer_distances, answer_rows
from knowtune.tasks.divergence import prompt_divergences

if TYPE_CHECKING:
    import torch

    from knowtune.checkpoints.base import Base
    from knowtune.semantics.distance import Vectors

    Measure = Callable[[int, torch.nn.Module], pd.DataFrame]  # seed and model to results on a set, beside the base's

EXAMPLE_COLUMNS = ["id", "fact", "relation", "kind", "target", "aliases"]


@dataclass(frozen=True)
class EvaluationSet:
    """What models are evaluated on, and how.

    Args:
        examples: of the data contract.
        texts: general text, for what is forgotten.
        metrics: what is computed.
        decoding: of answers, where a metric reads them.
        max_text_tokens: where texts are cut.
    """

    examples: pd.DataFrame
    texts: pd.DataFrame
    metrics: Sequence[str]
    decoding: Decoding
    max_text_tokens: int


@dataclass(frozen=True)
class Evaluation:
    """Results of several seeds, each row with its `seed`; metrics by seed.

    Args:
        examples: results of the examples beside the base's.
        texts: the same of the texts.
        metrics: by seed; of each retention set, by its name, the change against the base.
        sets: results on each retention set beside the base's.
        set_changes: set -> seed -> what `knowtune.evaluation.retention.changes` gives.
    """

    examples: pd.DataFrame
    texts: pd.DataFrame
    metrics: Mapping[str, Mapping[str, float]]
    sets: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    set_changes: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)


def judge_model(
    on: EvaluationSet,
    model: torch.nn.Module,
    base: Base,
    vectors: Vectors | None,
    label: str,
    pristine: torch.nn.Module | None = None,
) -> Results:
    """Judge a model on the examples, and let it read the texts.

    Args:
        on: the examples and texts.
        model: the model to judge.
        base: whose tokenizer and task it has.
        vectors: of the pristine base, to measure answers by; None where no metric reads answers.
        label: what progress bars say.
        pristine: the base's model, to compare distributions with; None where no metric does.
    """
    evaluator, tokenizer, batch_size = base.task.evaluator, base.tokenizer(), on.decoding.batch_size
    judged = evaluator.judge(model, tokenizer, on.examples, batch_size, f"{label}: examples")
    known = judged.get("predicted", judged.get("answer"))  # a classifier answers with its prediction
    judged = judged.drop(columns="answer", errors="ignore")
    if vectors is not None:
        whole = reads_whole_answers(on.metrics)
        answers = answer_rows(
            evaluator, model, tokenizer, on.examples, on.decoding, f"{label}: answers", known=known, whole=whole
        )
        distances = answer_distances(evaluator, tokenizer, on.examples, answers, vectors, on.decoding)
        judged = judged.assign(answer=answers, distance=distances)
    compared = reads_base(on.metrics)
    if pristine is not None and "prompts" in compared:
        new, beside = on.examples[on.examples["kind"] == "generalisation"], f"{label}: prompts beside the base"
        judged = judged.join(prompt_divergences(model, pristine, tokenizer, new, batch_size, beside))
    texts, longest = on.texts["text"].tolist(), min(on.max_text_tokens, base.context)
    read, states = evaluator.read_texts(
        model, tokenizer, texts, batch_size, longest, f"{label}: texts", pristine if "texts" in compared else None
    )
    examples = pd.concat([on.examples[EXAMPLE_COLUMNS], judged], axis=1)
    return Results(examples, pd.concat([on.texts[["id"]], read], axis=1), states)


def evaluate_seeds(
    on: EvaluationSet,
    models: Iterable[tuple[int, torch.nn.Module]],
    base: Base,
    baseline: Results,
    vectors: Vectors | None,
    label: str,
    pristine: torch.nn.Module | None = None,
    sets: Mapping[str, Measure] | None = None,
) -> Evaluation:
    """Evaluate the seeds of a run or mixture, one after the other.

    Args:
        on: the examples and texts.
        models: seed and model; each is opened when its turn comes.
        base: the pristine base.
        baseline: its results.
        vectors: as for `judge_model`.
        label: what progress bars and lines say.
        pristine: as for `judge_model`.
        sets: of each retention set what measures a model on it.
    """
    examples, texts, metrics = [], [], {}
    of_sets: dict[str, list[pd.DataFrame]] = {key: [] for key in sets or {}}
    set_changes: dict[str, dict[str, dict[str, float]]] = {key: {} for key in of_sets}
    for seed, model in models:
        name = f"{label}, seed {seed}"
        judged = beside_base(judge_model(on, model, base, vectors, name, pristine), baseline, base.task)
        metrics[str(seed)] = compute_metrics(on.metrics, judged)
        examples.append(judged.examples.assign(seed=seed))
        texts.append(judged.texts.assign(seed=seed))
        for key, measure in (sets or {}).items():
            results = measure(seed, model)
            of_sets[key].append(results.assign(seed=seed))
            set_changes[key][str(seed)] = changes(results)
            metrics[str(seed)][key] = set_changes[key][str(seed)]["change"]
        print(f"{name}: {metrics[str(seed)]}")
    whole = {key: pd.concat(parts, ignore_index=True) for key, parts in of_sets.items()}
    return Evaluation(
        pd.concat(examples, ignore_index=True), pd.concat(texts, ignore_index=True), metrics, whole, set_changes
    )
