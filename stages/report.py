"""Write the leaderboard, what each filter found of the injected label noise, the curves, and one self-contained page.

Everything here is reproducible: no clock, no host, no commit. What a run cost is in MLflow's and the work folder's
books.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stages.runner import command

if TYPE_CHECKING:
    from knowtune.evaluation.report.contents import Baseline, Model, Prepared
    from knowtune.lineage.graph import Graph
    from stages.core.schema import Params, RunParams

EXAMPLE = "python -m stages.report --prepared data/prepared --baseline data/baseline --filtered data/filtered \\\n    --selected data/selected --adapters data/adapters --evaluated data/evaluated \\\n    --verdict data/gate/verdict.json --out data/report"  # noqa: E501


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--prepared", type=Path, required=True, help="the prepared tables, label noise included")
    parser.add_argument("--baseline", type=Path, required=True, help="the pristine base's results")
    parser.add_argument("--filtered", type=Path, required=True, help="all filters' dropped rows and summaries")
    parser.add_argument("--selected", type=Path, required=True, help="all selections, for their pictures")
    parser.add_argument("--adapters", type=Path, required=True, help="all runs' trained seeds, for cards and curves")
    parser.add_argument("--evaluated", type=Path, required=True, help="all evaluations, runs/ and mixtures/")
    parser.add_argument("--verdict", type=Path, required=True, help="what the gate decided")
    parser.add_argument("--out", type=Path, required=True, help="folder for the report")


def run(args: argparse.Namespace, params: Params) -> None:
    """Report on what params.yaml names, and nothing else."""
    from knowtune.common.files import read_json, read_rows
    from knowtune.evaluation.report.contents import make_report
    from knowtune.evaluation.report.write import write_report
    from stages.core.models import task_of

    filters = {name: args.filtered / name for name in params.filters}
    report = make_report(
        params.evaluate.metrics,
        params.task.kind,
        task_of(params),
        _read_prepared(args.prepared),
        _baseline(args.baseline, params),
        _models(args, params),
        {name: (read_rows(at / "dropped.jsonl"), read_json(at / "summary.json")) for name, at in filters.items()},
        _selection_plots(args.selected, params),
        _run_plots(args.adapters, params),
        read_json(args.verdict),
        _lineage(args, params),
    )
    print(f"report: {write_report(report, args.out)}")


def _lineage(args: argparse.Namespace, params: Params) -> Graph:
    """Read what each model was made of, from the cards beside what is reported on."""
    from knowtune.lineage.artefacts import Layout, make_graph

    families = params.model_dump(mode="json", by_alias=True, include={"filters", "selections", "runs", "mixtures"})
    folders = {name: str(getattr(args, name)) for name in ("prepared", "filtered", "selected", "adapters")}
    return make_graph(families, Layout(**folders), lambda path: Path(path) if Path(path).is_file() else None)


def _read_prepared(folder: Path) -> Prepared:
    """Read what `prepare` wrote."""
    from knowtune.common.files import read_json, read_rows
    from knowtune.data.label_noise import NOISE_COLUMNS
    from knowtune.evaluation.report.contents import Prepared

    train, test = (read_rows(folder / f"{table}.jsonl") for table in ("train", "test"))
    injected = read_rows(folder / "label_noise.jsonl", NOISE_COLUMNS)
    return Prepared(train, test, injected, read_json(folder / "summary.json"))


def _baseline(folder: Path, params: Params) -> Baseline:
    """Read what `baseline` and `retention` wrote."""
    from knowtune.common.files import read_json
    from knowtune.evaluation.report.contents import Baseline

    sets = {name: read_json(folder / "retention" / name / "metrics.json") for name in params.evaluate.retention}
    return Baseline(read_json(folder / "metrics.json"), **read_json(folder / "notes.json"), sets=sets)


def _models(args: argparse.Namespace, params: Params) -> list[Model]:
    """Read what was trained, mixed and evaluated: the runs, then the mixtures."""
    return [
        *(_run(args, params, name) for name in params.runs),
        *(_mixture(args.evaluated / "mixtures" / name, params, name) for name in params.mixtures),
    ]


def _run(args: argparse.Namespace, params: Params, name: str) -> Model:
    """Read a run."""
    import pandas as pd

    from knowtune.checkpoints.cards import ADAPTER_CARD
    from knowtune.common.files import read_card, read_json, read_rows
    from knowtune.evaluation.leaderboard import Entry
    from knowtune.evaluation.report.contents import Cost, Model

    run, folder = params.runs[name], args.evaluated / "runs" / name
    seeds = {seed: args.adapters / name / f"seed-{seed}" for seed in run.seeds}
    metrics, first = read_json(folder / "metrics.json"), seeds[run.seeds[0]]
    counts = dict.fromkeys(("num_trainable", "num_steps", "num_rows", "num_parameters"), int)
    card = read_card(first / ADAPTER_CARD, counts, "train")
    parts = [part for part in ("replay", "distill", "anchor") if getattr(run.preserve, part, None) is not None]
    about = ", ".join([f"{_method_of(run)} on {run.selection}", *(["reweight"] if run.reweight else []), *parts])
    entry = Entry(name, about, card["num_trainable"], metrics["parity"], metrics["summary"])
    curves = [pd.read_csv(adapter / "curve.csv").assign(seed=seed) for seed, adapter in seeds.items()]
    size = sum(path.stat().st_size for path in first.rglob("*") if path.is_file())
    return Model(
        entry,
        read_rows(folder / "examples.jsonl"),
        pd.concat(curves, ignore_index=True),
        retained=metrics.get("retention", {}),
        only=_only(params, name),
        params=run.model_dump(mode="json", by_alias=True, exclude_unset=True),
        cost=Cost(card["num_steps"], card["num_rows"], card["num_parameters"], size),
    )


def _mixture(folder: Path, params: Params, name: str) -> Model:
    """Read a mixture."""
    import pandas as pd

    from knowtune.common.files import read_json, read_rows
    from knowtune.evaluation.leaderboard import Entry
    from knowtune.evaluation.report.contents import Model

    mixture, metrics = params.mixtures[name], read_json(folder / "metrics.json")
    entry = Entry(name, f"{mixture.strategy} of {mixture.sources}", None, None, metrics["summary"])
    chosen = pd.DataFrame(metrics["curve"]) if "curve" in metrics else None
    given = mixture.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return Model(entry, read_rows(folder / "examples.jsonl"), None, chosen, metrics.get("retention", {}), params=given)


def _method_of(run: RunParams) -> str:
    """Name a run's method, and the one inside it."""
    return " of ".join(named.type or named.method for named in (run, run.inner) if named is not None)


def _only(params: Params, run: str) -> list[str]:
    """Name the relations that a run's filter lets it learn alone; none where it has no filter `relations`."""
    chosen = params.filters[params.selections[params.runs[run].selection].filter]
    names: list[str] = chosen.options.get("relations", {}).get("only", [])
    return names if "relations" in chosen.strategy else []


def _selection_plots(folder: Path, params: Params) -> dict[str, str]:
    """Read the pictures of selections that choose parameters, of the first seed."""
    from knowtune.common.files import read_json
    from knowtune.selectors.artefact import CARD, PICTURE

    first = {name: folder / name / f"seed-{min(chosen.seeds)}" for name, chosen in params.selections.items()}
    return {name: (at / PICTURE).read_text("utf-8") for name, at in first.items() if read_json(at / CARD)["mask"]}


def _run_plots(folder: Path, params: Params) -> dict[str, str]:
    """Read the pictures of runs whose method draws one, of the first seed."""
    first = {name: folder / name / f"seed-{min(run.seeds)}" / "picture.svg" for name, run in params.runs.items()}
    return {name: picture.read_text("utf-8") for name, picture in first.items() if picture.is_file()}


if __name__ == "__main__":
    sys.exit(command.main("stages.report"))
