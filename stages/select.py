"""Choose training rows and parameters among what a filter kept, once per seed of the selection."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stages.core.schema import Params
from stages.runner import command

EXAMPLE = "python -m stages.select --name ird --kept data/filtered/clean/kept.jsonl \\\n    --validation data/prepared/validation.jsonl --base data/base --out data/selected/ird"  # noqa: E501


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--name", required=True, help="a name under `selections` in params.yaml")
    parser.add_argument("--kept", type=Path, required=True, help="rows that the selection's filter kept")
    parser.add_argument("--validation", type=Path, required=True, help="validation rows, for a search")
    parser.add_argument("--base", type=Path, required=True, help="the base stage's folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for one seed-N folder per seed")


def run(args: argparse.Namespace, params: Params) -> None:
    """Choose for the seeds that are not finished yet, then lay all of them into the out folder."""
    import shutil

    from knowtune.common.errors import unknown
    from knowtune.common.files import read_json, read_rows, replace_folder, write_json
    from knowtune.data.contract import KEPT, ROW_COLUMNS, ROWS, check
    from knowtune.methods import METHODS
    from knowtune.methods.base import MaskedMethod
    from knowtune.registry import member_class
    from knowtune.selectors import SELECTORS
    from knowtune.selectors.artefact import CARD
    from knowtune.selectors.run import Brief, ChoiceJob, choose_seed
    from stages.core.code import code_of
    from stages.core.compute import compute_of, require_one_process
    from stages.core.models import open_base
    from stages.core.runs import method_of
    from stages.core.work import work_folder

    require_one_process("select")
    if args.name not in params.selections:
        raise unknown("selection", args.name, params.selections)
    settings = params.selections[args.name]
    selector = member_class(SELECTORS, "selector", settings.strategy)(**settings.options)
    base = open_base(params, args.base)
    adapter = settings.adapter
    method = None if adapter is None else method_of(adapter)
    masked = None if settings.trial is None else member_class(METHODS, "method", "fish")()
    assert masked is None or isinstance(masked, MaskedMethod)
    decides = [settings.model_dump(exclude={"seeds"}), compute_of(params).__dict__, params.task.model_dump()]
    code = code_of("stages.select", settings, params)
    work = work_folder(f"select-{args.name}", decides, [args.kept, args.validation, args.base], code)
    rows = check(read_rows(args.kept), KEPT, str(args.kept))
    summary = {}
    for seed in settings.seeds:
        place = work / f"seed-{seed}"
        finished = place / "finished"
        if not finished.is_dir():
            job = ChoiceJob(
                name=args.name,
                strategy=settings.strategy,
                selector=selector,
                seed=seed,
                rows=rows,
                validation=check(read_rows(args.validation, ROW_COLUMNS), ROWS, str(args.validation)),
                adapter=None if adapter is None or method is None else (adapter.method, method),
                warmup=None
                if adapter is None
                else Brief(adapter.warmup_steps, adapter.learning_rate, adapter.batch_size),
                masked=masked,
                trial=None if settings.trial is None else Brief(**settings.trial.model_dump()),
            )
            choose_seed(job, base, place / "fresh", place / "partial")
            (place / "fresh").rename(finished)
            shutil.rmtree(place / "partial", ignore_errors=True)
            last = read_json(finished / CARD)["trace"][-1]
            kept = "" if last["num_parameters"] is None else f", {last['num_parameters']:,} parameters"
            print(f"select {args.name}: seed {seed}: {last['num_rows']} of {len(rows)} rows{kept}")
        else:
            print(f"select {args.name}: seed {seed} is finished already", file=sys.stderr)
        replace_folder(finished, args.out / f"seed-{seed}")
        last = read_json(finished / CARD)["trace"][-1]
        summary[f"seed-{seed}"] = {key: last[key] for key in ("num_rows", "num_parameters", "mass_kept")}
    write_json(args.out / "summary.json", summary)


if __name__ == "__main__":
    sys.exit(command.main("stages.select"))
