"""Judge which model is to be shipped: the run that params.yaml names, or the best by a rule, against the champion.

The verdict is data, and the stage succeeds whatever it is; with --strict it ends with 1 where none is to be shipped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.runner import command

if TYPE_CHECKING:
    import pandas as pd

    from knowtune.evaluation.gate import Bound, Candidate, Rival, Rules
    from knowtune.evaluation.paired import Results
    from knowtune.tasks.base import Task
    from stages.core.schema import Params, Promote

EXAMPLE = "python -m stages.gate --prepared data/prepared --baseline data/baseline --filtered data/filtered \\\n    --adapters data/adapters --merged data/merged --evaluated data/evaluated --champion champion \\\n    --out data/gate/verdict.json"  # noqa: E501

PARITY = "parity.json"  # as knowtune.merging.parity names it, which imports torch


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--prepared", type=Path, required=True, help="rejected rows, planted damage, counts")
    parser.add_argument("--baseline", type=Path, required=True, help="the pristine base's results")
    parser.add_argument("--filtered", type=Path, required=True, help="the rows that each filter keeps")
    parser.add_argument("--adapters", type=Path, required=True, help="all runs' trained seeds, for their cards")
    parser.add_argument("--merged", type=Path, required=True, help="all runs' merged models, with their parity")
    parser.add_argument("--evaluated", type=Path, required=True, help="all evaluations, runs/ and mixtures/")
    parser.add_argument("--champion", type=Path, required=True, help="what promotion wrote of the champion")
    parser.add_argument("--out", type=Path, required=True, help="file for the verdict")
    parser.add_argument("--strict", action="store_true", help="end with 1 where no model is to be shipped")


def run(args: argparse.Namespace, params: Params) -> None:
    """Write verdict.json: verdict, run, seed, summary, rules with their numbers, candidates, champion with metrics."""
    from knowtune.common.errors import UserError
    from knowtune.common.files import write_json
    from knowtune.evaluation.gate import NONE, no_verdict
    from stages.core.champion import read_champion

    champion = None if params.promote is None else read_champion(args.champion, params.promote.model)
    if params.promote is None:
        verdict = no_verdict("params.yaml has no section `promote`")
    else:
        verdict = _judge(args, params, params.promote, champion)
    known = ("model", "version", "run", "seed", "weights_digest", "metrics")
    about = None if champion is None else {key: champion[key] for key in known if key in champion}
    write_json(args.out, {**verdict, "champion": about})
    print(f"gate: {verdict['summary']}")
    if args.strict and verdict["verdict"] == NONE:
        raise UserError(f"gate: {args.out}: {verdict['summary']}")


def _judge(
    args: argparse.Namespace, params: Params, rules: Promote, champion: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Apply the rules to every run and mixture, and choose."""
    from knowtune.evaluation.gate import check_candidate, give_verdict

    models = {**params.runs, **params.mixtures}
    candidates = {name: _candidate(args, params, rules, name) for name in models}
    rival, unreviewed = _rival(args, params, rules, champion), _unreviewed(args.prepared, rules)
    met = _rules(args.baseline, params, rules)
    checked = {name: check_candidate(of, met, rival, unreviewed) for name, of in candidates.items()}
    return give_verdict(checked, candidates, _named(rules, candidates))


def _named(rules: Promote, candidates: Mapping[str, Candidate]) -> list[str]:
    """List the run that is named, or those of the rule, the best first."""
    from knowtune.evaluation.metrics import METRICS
    from knowtune.registry import member_class

    if rules.best is None:
        assert rules.run is not None
        return [rules.run]
    by = rules.best.by
    sign = -1 if member_class(METRICS, "metric", by).higher_is_better else 1
    named = rules.best.of or list(candidates)
    worst = {"mean": sign * float("inf")}  # where it was not measured
    return sorted(named, key=lambda name: sign * float(candidates[name].spread.get(by, worst)["mean"]))


def _rules(baseline: Path, params: Params, rules: Promote) -> Rules:
    """Give the rules as the library takes them."""
    from knowtune.common.files import read_json
    from knowtune.evaluation.gate import Rules

    bounds = {name: _bound(params, name, limit) for name, limit in rules.bounds.items()}
    measured = frozenset([*read_json(baseline / "metrics.json"), *params.evaluate.retention])
    learned, binary = _learned(params, rules), not _task(params).numeric
    return Rules(learned, binary, bounds, measured, rules.rejects.planted, rules.rejects.unreviewed)


def _task(params: Params) -> type[Task]:
    """Give the task's class, which says how it is judged."""
    from knowtune.registry import member_class
    from knowtune.tasks import TASKS

    return member_class(TASKS, "task", params.task.kind)


def _learned(params: Params, rules: Promote) -> str:
    """Name the part in which models are compared."""
    task = _task(params)
    return rules.learned or ("loss" if task.numeric else task.learned)


def _bound(params: Params, name: str, limit: float) -> Bound:
    """Give the bound of a metric; of a retention set that of the change: how much worse than the base it may be."""
    from knowtune.evaluation.gate import Bound
    from knowtune.evaluation.metrics import METRICS
    from knowtune.registry import member_class

    if name in params.evaluate.retention:
        counts = params.evaluate.retention[name].kind != "text"
        return Bound(-limit if counts else limit, counts, counts)
    metric = member_class(METRICS, "metric", name)
    return Bound(limit, bool(metric.higher_is_better), metric.unit == "share")


def _candidate(args: argparse.Namespace, params: Params, rules: Promote, name: str) -> Candidate:
    """Read what is known of a run or mixture."""
    from knowtune.checkpoints.cards import MERGED
    from knowtune.common.files import read_card, read_rows
    from knowtune.evaluation.gate import Candidate

    is_run = name in params.runs
    folder = args.evaluated / ("runs" if is_run else "mixtures") / name
    metrics = read_card(folder / "metrics.json", {"seeds": dict, "summary": dict}, "evaluate")
    seeds = sorted(map(int, metrics["seeds"]))
    seed = _best_seed(args.adapters / name, seeds) if is_run else seeds[0]
    values = metrics["seeds"][str(seed)]
    models = args.merged / name
    weights = read_card(models / f"seed-{seed}" / MERGED, {"weights_digest": str}, "merge") if is_run else {}
    sources = [name] if is_run else params.mixtures[name].runs
    return Candidate(
        name,
        seed,
        weights["weights_digest"] if is_run else _as_measured(name, values),
        _results(name, read_rows(folder / "examples.jsonl"), params, rules),
        values,
        metrics["summary"],
        _parity(models, seed, params.merge.parity) if is_run else None,
        max(_planted(args, params, source) for source in sources),
    )


def _as_measured(mixture: str, metrics: Mapping[str, float]) -> str:
    """Give what a mixture is known by again: where there are none, no folder of them can be a dependency of a stage."""
    from knowtune.common.files import text_digest

    return text_digest([mixture, dict(metrics)])


def _best_seed(folder: Path, seeds: list[int]) -> int:
    """Choose the seed with the lowest validation loss; where there is none, the lowest seed."""
    from knowtune.checkpoints.cards import ADAPTER_CARD
    from knowtune.common.files import read_card

    shape = {"validation_loss": float | int | None}
    losses = {seed: read_card(folder / f"seed-{seed}" / ADAPTER_CARD, shape, "train") for seed in seeds}
    known = {seed: card["validation_loss"] for seed, card in losses.items() if card["validation_loss"] is not None}
    return min(known, key=lambda seed: (known[seed], seed)) if known else seeds[0]


def _results(name: str, examples: pd.DataFrame, params: Params, rules: Promote) -> Results:
    """Take the part in which models are compared."""
    from knowtune.evaluation.paired import as_results

    task = _task(params)
    table = examples[examples["kind"] == _learned(params, rules)] if task.writes else examples
    return as_results(name, table, binary=not task.numeric)


def _parity(folder: Path, seed: int, bound: float) -> tuple[float, float]:
    """Read a seed's largest difference of logits, and what the merge stage allows."""
    from knowtune.common.files import read_card

    found = read_card(folder / PARITY, {f"seed-{seed}": dict}, "merge")[f"seed-{seed}"]
    return max(found["largest"], found["trained"]), max(bound, found["noise"])


def _planted(args: argparse.Namespace, params: Params, run: str) -> float:
    """Return the share of planted damage among the rows that a run's filter keeps."""
    from knowtune.common.files import read_rows
    from knowtune.data.label_noise import NOISE_COLUMNS

    planted = set(read_rows(args.prepared / "label_noise.jsonl", NOISE_COLUMNS)["id"])
    kept = read_rows(args.filtered / params.selections[params.runs[run].selection].filter / "kept.jsonl")["id"]
    return float(kept.isin(planted).mean()) if len(kept) else 0.0


def _unreviewed(folder: Path, rules: Promote) -> float:
    """Return the share of the rows read that were rejected and that nobody has reviewed."""
    from knowtune.common.files import read_json, read_rows

    rejected = read_rows(folder / "rejected.jsonl", ["id", "reason"])
    reviewed = rejected["id"].isin(rules.rejects.reviewed) | rejected["reason"].isin(rules.rejects.reviewed)
    counts = read_json(folder / "summary.json")
    parts = ("train", "validation", "retention", "replay", "replay_texts", "not_drawn", "rejected")
    read = sum(counts.get(part, 0) for part in parts) + sum(counts["test"].values())
    return float((~reviewed).sum()) / read if read else 0.0


def _rival(args: argparse.Namespace, params: Params, rules: Promote, champion: Mapping[str, Any] | None) -> Rival:
    """Read what is to be beaten: the champion's results as promotion recorded them, or the base's."""
    from knowtune.common.files import read_rows
    from knowtune.evaluation.gate import Rival
    from stages.core.champion import read_results

    if champion is None:
        return Rival("the base", _results("the base", read_rows(args.baseline / "examples.jsonl"), params, rules))
    name = f"the champion ({champion['run']}, version {champion['version']})"
    mixed = champion["run"] in params.mixtures
    identity = _as_measured(champion["run"], champion["metrics"]) if mixed else champion["weights_digest"]
    if champion["task"] != params.task.model_dump():
        fault = (
            f"{name} is of another task, {champion['task']}; give promote.model another name, or remove {args.champion}"
        )
        return Rival(name, None, fault, identity)
    return Rival(name, _results(name, read_results(args.champion), params, rules), "", identity)


if __name__ == "__main__":
    sys.exit(command.main("stages.gate"))
