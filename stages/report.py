"""Write the leaderboard, what each filter found of the planted damage, the curves, and one self-contained page.

Everything here is reproducible: no clock, no host, no commit. What a run cost is in MLflow's and the work folder's
books.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stages.core.schema import Params
from stages.runner import command

if TYPE_CHECKING:
    from knowtune.evaluation.push_away import PushAway

EXAMPLE = "python -m stages.report --prepared data/prepared --baseline data/baseline --filtered data/filtered \\\n    --selected data/selected --adapters data/adapters --evaluated data/evaluated --out data/report"  # noqa: E501


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--prepared", type=Path, required=True, help="the prepared tables, planted damage included")
    parser.add_argument("--baseline", type=Path, required=True, help="the pristine base's results")
    parser.add_argument("--filtered", type=Path, required=True, help="all filters' dropped rows and summaries")
    parser.add_argument("--selected", type=Path, required=True, help="all selections, for their pictures")
    parser.add_argument("--adapters", type=Path, required=True, help="all runs' trained seeds, for cards and curves")
    parser.add_argument("--evaluated", type=Path, required=True, help="all evaluations, runs/ and mixtures/")
    parser.add_argument("--out", type=Path, required=True, help="folder for the report")


def run(args: argparse.Namespace, params: Params) -> None:
    """Gather what params.yaml names, and nothing else."""
    import pandas as pd

    from knowtune.checkpoints.cards import ADAPTER_CARD
    from knowtune.common.files import read_card, read_json, read_rows, write_json
    from knowtune.data.label_noise import PLANTED_COLUMNS
    from knowtune.evaluation.leaderboard import CONSTANT, compute_metrics, constant_answer, over_seeds, reads_answers
    from knowtune.evaluation.push_away import shortened
    from knowtune.evaluation.report import Entry, leaderboard_markdown, score_filter, write_page
    from knowtune.filters.plot import draw_filter
    from knowtune.selectors.artefact import CARD, PICTURE
    from stages.core.models import task_of

    entries = [Entry("base", "pristine", None, None, over_seeds({"0": read_json(args.baseline / "metrics.json")}))]
    train, task = read_rows(args.prepared / "train.jsonl"), task_of(params)
    if constant := constant_answer(params.task.kind, train, read_rows(args.prepared / "test.jsonl"), task):
        answer, judged = constant
        found = over_seeds({"0": compute_metrics(params.evaluate.metrics, judged)})
        entries.append(
            Entry(CONSTANT[params.task.kind], f"always {shortened(answer)!r}", None, None, found, constant=True)
        )
    curves = []
    for name, settings in params.runs.items():
        metrics = read_json(args.evaluated / "runs" / name / "metrics.json")
        path = args.adapters / name / f"seed-{settings.seeds[0]}" / ADAPTER_CARD
        card = read_card(path, {"num_trainable": int}, "train")
        method = settings.type or settings.method
        entries.append(
            Entry(
                name, f"{method} on {settings.selection}", card["num_trainable"], metrics["parity"], metrics["summary"]
            )
        )
        for seed in settings.seeds:
            curve = pd.read_csv(args.adapters / name / f"seed-{seed}" / "curve.csv")
            curves.append(curve.assign(run=name, seed=seed))
    for name, mixture in params.mixtures.items():
        metrics = read_json(args.evaluated / "mixtures" / name / "metrics.json")
        entries.append(Entry(name, f"{mixture.strategy} of {', '.join(mixture.runs)}", None, None, metrics["summary"]))
    planted = read_rows(args.prepared / "planted.jsonl", PLANTED_COLUMNS)
    filters = {
        name: score_filter(train, planted, read_rows(args.filtered / name / "dropped.jsonl")) for name in params.filters
    }
    table = pd.concat(curves, ignore_index=True)[["run", "seed", "split", "step", "loss"]]
    (args.out / "curves").mkdir(parents=True, exist_ok=True)
    for (run_name, split), curve in table.groupby(["run", "split"]):
        mean = curve.groupby("step")["loss"].mean()  # over seeds
        mean.to_csv(args.out / "curves" / f"{run_name}.{split}.csv")
    write_json(args.out / "leaderboard.json", {e.name: e.summary for e in entries})
    means = {e.name: {name: value["mean"] for name, value in e.summary.items()} for e in entries}
    write_json(args.out / "metrics.json", means)  # for `dvc metrics`, which makes every number a column
    write_json(args.out / "filters.json", filters)
    summary, notes = read_json(args.prepared / "summary.json"), read_json(args.baseline / "notes.json")
    known, cautions = notes["known"], [*summary["cautions"], *notes["cautions"]]
    markdown = leaderboard_markdown(entries, params.evaluate.metrics, known, cautions)
    (args.out / "leaderboard.md").write_text(markdown, encoding="utf-8")
    axes = (task.lost, task.learned)
    first = {name: args.selected / name / f"seed-{min(chosen.seeds)}" for name, chosen in params.selections.items()}
    pictures = {
        name: (folder / PICTURE).read_text(encoding="utf-8")
        for name, folder in first.items()
        if read_json(folder / CARD)["mask"]
    }
    drawn = {name: draw_filter(read_json(args.filtered / name / "summary.json")) for name in params.filters}
    filter_pictures = {name: picture for name, picture in drawn.items() if picture is not None}
    pushed = _pushed(args, params) if reads_answers(params.evaluate.metrics) else None
    page = args.out / "index.html"
    write_page(
        page,
        entries,
        params.evaluate.metrics,
        filters,
        table,
        summary,
        axes,
        pictures,
        filter_pictures,
        pushed,
        known,
        cautions,
    )
    print(f"report: {page}")


def _pushed(args: argparse.Namespace, params: Params) -> PushAway | None:
    """Gather what moved away from its target, of all models, with the items' prompts."""
    from knowtune.common.files import read_rows
    from knowtune.evaluation.push_away import push_away

    places = {name: f"{group}/{name}" for group in ("runs", "mixtures") for name in getattr(params, group)}
    items = {name: read_rows(args.evaluated / place / "items.jsonl") for name, place in places.items()}
    test = read_rows(args.prepared / "test.jsonl")
    prompts = (test["prompt"] + "\n" + test["text_pair"]).str.rstrip("\n")
    return push_away(items, dict(zip(test["id"], prompts, strict=True)))


if __name__ == "__main__":
    sys.exit(command.main("stages.report"))
