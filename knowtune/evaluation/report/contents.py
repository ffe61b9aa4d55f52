"""What the report shows, gathered from what the stages left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from knowtune.evaluation.compute_metrics import compute_metrics, over_seeds, reads_answers
from knowtune.evaluation.constant_baseline import CONSTANT, constant_answer
from knowtune.evaluation.filter_scores import score_filter
from knowtune.evaluation.interference import Interference, interference
from knowtune.evaluation.leaderboard import Entry
from knowtune.evaluation.push_away import PushAway, push_away, shorten
from knowtune.evaluation.retention_columns import SetColumn
from knowtune.filters.plot import draw_filter

if TYPE_CHECKING:
    from knowtune.lineage.graph import Graph
    from knowtune.tasks.base import Task


@dataclass(frozen=True)
class Prepared:
    """What `prepare` wrote: training rows, evaluation examples, which rows it damaged, and counts."""

    train: pd.DataFrame
    test: pd.DataFrame
    injected: pd.DataFrame
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class Baseline:
    """What the pristine base reached.

    Args:
        metrics: by name.
        known: how many known facts it has right, and how many there are; None where there are none.
        cautions: what follows from its results.
        noise: how much it differs from itself at another batch size, see `knowtune.evaluation.results.noise_floors`.
        sets: what it is on each retention set, see `knowtune.evaluation.retention.describe`.
    """

    metrics: Mapping[str, float]
    known: Sequence[int] | None
    cautions: Sequence[str]
    noise: Mapping[str, float] = field(default_factory=dict)
    sets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """What a seed of a run took, as far as it is the same each time.

    Args:
        num_steps: of the optimiser.
        num_rows: that it read, each epoch.
        num_parameters: of the model with what was attached.
        num_bytes: that its adapter or checkpoint fills.
    """

    num_steps: int
    num_rows: int
    num_parameters: int
    num_bytes: int


@dataclass(frozen=True)
class Model:
    """One run or mixture, all seeds.

    Args:
        entry: its line of the leaderboard.
        examples: its results, of all seeds.
        curves: seed, split, step, loss; None of a mixture.
        interpolation: of a mixture that chose its alpha: seed, alpha, learned, forgotten, chosen; else None.
        retained: retention set -> its changes over seeds, see `knowtune.evaluation.retention.changes`.
        only: of a run on a filter `relations`, what it learned alone.
        params: what params.yaml says of it.
        cost: of the lowest seed; None of a mixture.
    """

    entry: Entry
    examples: pd.DataFrame
    curves: pd.DataFrame | None
    interpolation: pd.DataFrame | None = None
    retained: Mapping[str, Any] = field(default_factory=dict)
    only: Sequence[str] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    cost: Cost | None = None


@dataclass(frozen=True)
class Report:
    """What the report shows.

    Args:
        entries: lines of the leaderboard.
        metrics: its columns.
        axes: the metrics of what was lost and of what was learned, drawn against each other.
        filters: per filter, see `score_filter`.
        curves: run, seed, split, step, loss.
        summary: what `prepare` counted.
        selection_plots: of selections that choose parameters, by name, as SVG.
        filter_plots: of filters that drop or compare rows, by name, as SVG.
        pushed: which answers moved away from their targets; None where no metric reads answers.
        known: how many known facts the base has right, and how many there are; None where there are none.
        cautions: what makes the numbers say less than they seem to.
        interpolations: of mixtures that chose their alpha, by name; see `Model`.
        run_plots: of runs whose method draws what it trained, by name, as SVG.
        sets: columns of the retention sets.
        retained: model -> what it lost and gained on them, see `Model`.
        interference: between relations that runs learned alone; None where there are none.
        models: runs and mixtures.
        prompts: of the evaluation examples, by id.
        verdict: what the gate decided, and why; None where there is no gate.
        lineage: what each model was made of, from the rows on.
    """

    entries: Sequence[Entry]
    metrics: Sequence[str]
    axes: tuple[str, str]
    filters: Mapping[str, Mapping[str, Any]]
    curves: pd.DataFrame
    summary: Mapping[str, Any]
    selection_plots: Mapping[str, str]
    filter_plots: Mapping[str, str]
    pushed: PushAway | None = None
    known: Sequence[int] | None = None
    cautions: Sequence[str] = ()
    interpolations: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    run_plots: Mapping[str, str] = field(default_factory=dict)
    sets: Sequence[SetColumn] = ()
    retained: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    interference: Interference | None = None
    models: Sequence[Model] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)
    verdict: Mapping[str, Any] | None = None
    lineage: Graph | None = None


def make_report(
    metrics: Sequence[str],
    kind: str,
    task: Task,
    prepared: Prepared,
    baseline: Baseline,
    models: Sequence[Model],
    filters: Mapping[str, tuple[pd.DataFrame, Mapping[str, Any]]],
    selection_plots: Mapping[str, str],
    run_plots: Mapping[str, str] | None = None,
    verdict: Mapping[str, Any] | None = None,
    lineage: Graph | None = None,
) -> Report:
    """Put the report together.

    Args:
        metrics: columns of the leaderboard.
        kind: the task's name.
        task: the task.
        prepared: see `Prepared`.
        baseline: see `Baseline`.
        models: runs and mixtures, in the order in which they are shown.
        filters: per filter, the rows that it dropped and its summary.
        selection_plots: see `Report`.
        run_plots: see `Report`.
        verdict: of the gate, see `knowtune.evaluation.gate.give_verdict`; one without candidates is none.
        lineage: see `Report`.
    """
    prompts = (prepared.test["prompt"] + "\n" + prepared.test["text_pair"]).str.rstrip("\n")
    prompt_of = dict(zip(prepared.test["id"], prompts, strict=True))
    examples = {model.entry.name: model.examples for model in models}
    sets = [SetColumn(name, about) for name, about in baseline.sets.items()]
    of_base = over_seeds({"0": {**baseline.metrics, **dict.fromkeys(baseline.sets, 0.0)}})
    entries = [Entry("base", "pristine", None, None, of_base)]
    if constant := constant_answer(kind, prepared.train, prepared.test, task):
        answer, judged = constant
        summary = over_seeds({"0": compute_metrics(metrics, judged)})
        entries.append(Entry(CONSTANT[kind], f"always {shorten(answer)!r}", None, None, summary, constant=True))
    curves = [model.curves.assign(run=model.entry.name) for model in models if model.curves is not None]
    plots = {name: draw_filter(summary) for name, (_, summary) in filters.items()}
    return Report(
        entries=[*entries, *(model.entry for model in models)],
        metrics=metrics,
        axes=(task.lost, task.learned),
        filters={
            name: score_filter(prepared.train, prepared.injected, dropped) for name, (dropped, _) in filters.items()
        },
        curves=pd.concat(curves, ignore_index=True)[["run", "seed", "split", "step", "loss"]],
        summary=prepared.summary,
        selection_plots=selection_plots,
        filter_plots={name: plot for name, plot in plots.items() if plot is not None},
        pushed=push_away(examples, prompt_of) if reads_answers(metrics) else None,
        known=baseline.known,
        cautions=[*prepared.summary["cautions"], *baseline.cautions, *filter(None, (one.caution() for one in sets))],
        interpolations={m.entry.name: m.interpolation for m in models if m.interpolation is not None},
        run_plots=run_plots or {},
        sets=sets,
        retained={model.entry.name: model.retained for model in models},
        interference=interference(examples, {model.entry.name: model.only for model in models if model.only}),
        models=models,
        prompts=prompt_of,
        verdict=verdict if verdict and verdict["candidates"] else None,
        lineage=lineage,
    )
