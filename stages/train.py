"""Train a run: its method on the rows of its selection, once per seed, all seeds in one process.

A killed stage goes on from its last checkpoint. Finished seeds are kept in the work folder, so an added seed trains
only that seed. Seed N alone equals seed N in a list, bit for bit.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stages.runner import command

if TYPE_CHECKING:
    from stages.core.schema import Params

EXAMPLE = "python -m stages.train --name lora --selected data/selected/clean --preserved data/preserved/lora \\\n    --validation data/prepared/validation.jsonl --base data/base --out data/adapters/lora"  # noqa: E501


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--name", required=True, help="a name under `runs` in params.yaml")
    parser.add_argument("--selected", type=Path, required=True, help="the run's selection")
    parser.add_argument("--preserved", type=Path, required=True, help="what the run keeps of its base")
    parser.add_argument("--validation", type=Path, required=True, help="validation rows")
    parser.add_argument("--base", type=Path, required=True, help="the base stage's folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for one seed-N folder per seed")


def run(args: argparse.Namespace, params: Params) -> None:
    """Train the seeds that are not finished yet, then copy all of them into the out folder."""
    from knowtune.common.errors import unknown
    from knowtune.common.files import read_rows
    from knowtune.data.contract import ROW_COLUMNS, ROWS, check
    from knowtune.preserve import OPENED
    from knowtune.registry import member_class
    from knowtune.selectors.artefact import read_selection
    from knowtune.training.run import Job, train_seed
    from stages.core.code import code_of
    from stages.core.compute import compute_of, require_one_process
    from stages.core.models import open_base
    from stages.core.reweighting import plan_of
    from stages.core.runs import method_of, recipe_of
    from stages.core.seeds import make_seeds
    from stages.core.work import work_folder

    require_one_process("train")
    if args.name not in params.runs:
        raise unknown("run", args.name, params.runs)
    settings = params.runs[args.name]
    base = open_base(params, args.base)
    method, recipe, plan = method_of(settings), recipe_of(params, settings), plan_of(params, args.name)
    measured = plan if plan is not None and plan.representation is not None else None  # losses need none
    decides = [
        settings.model_dump(exclude={"seeds"}),
        None if measured is None else (params.semantics.model_dump(), measured.max_new_tokens, measured.extra_tokens),
        recipe.model_dump(),
        compute_of(params).__dict__,
        params.task.model_dump(),
    ]
    preserve = settings.preserve
    inputs = [args.selected, args.validation, args.base, *([] if measured is None else [Path(params.semantics.path)])]
    inputs += [] if preserve is None else [args.preserved]
    work = work_folder(f"train-{args.name}", decides, inputs, code_of("stages.train", settings, params))
    validation = check(read_rows(args.validation, ROW_COLUMNS), ROWS, str(args.validation))
    material = None
    if preserve is not None:
        material = member_class(OPENED, "part", "material")(args.preserved, base, preserve.sources)

    def make(seed: int, folder: Path, partial: Path) -> None:
        selected = read_selection(args.selected, seed, base)
        job = Job(
            name=args.name,
            method_name=settings.method,
            method=method,
            recipe=recipe,
            seed=seed,
            rows=selected.rows if settings.train_on == "all" else selected.rows[selected.rows["chosen"]],
            validation=validation,
            mask=selected.mask,
            start=selected.adapter,
            reweight=plan,
            preserve=preserve,
            material=material,
            phases=settings.phases,
        )
        train_seed(job, base, folder, partial, work / "dry-run.json")

    make_seeds(f"train {args.name}", settings.seeds, work, args.out, make)


if __name__ == "__main__":
    sys.exit(command.main("stages.train"))
