"""Mix the merged models of several runs into one, seed by seed: first with first, second with second.

Mixtures depend on the whole folder of merged models, because DVC cannot put a list of names into a stage's deps.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stages.core.schema import Params
from stages.runner import command

EXAMPLE = "python -m stages.mix --name soup --merged data/merged --validation data/prepared/validation.jsonl \\\n    --replay data/prepared/replay.jsonl --base data/base --out data/mixed/soup"  # noqa: E501


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--name", required=True, help="a name under `mixtures` in params.yaml")
    parser.add_argument("--merged", type=Path, required=True, help="folder of all merged runs")
    parser.add_argument(
        "--validation", type=Path, required=True, help="validation rows, for a choice by what is learned"
    )
    parser.add_argument(
        "--replay", type=Path, required=True, help="known rows that measure nothing, for one by what is lost"
    )
    parser.add_argument("--base", type=Path, required=True, help="the base stage's folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for one seed-N folder per mixture")


def run(args: argparse.Namespace, params: Params) -> None:
    """Mix the seeds position by position; a mixture is named after the first run's seed."""
    from knowtune.common.errors import unknown
    from knowtune.common.files import write_json
    from knowtune.merging.mix import mix
    from knowtune.merging.mixtures import MIXTURES
    from knowtune.registry import member_class
    from stages.core.models import open_base

    if args.name not in params.mixtures:
        raise unknown("mixture", args.name, params.mixtures)
    settings = params.mixtures[args.name]
    base = open_base(params, args.base)
    member = member_class(MIXTURES, "mixture", settings.strategy)(**settings.options)
    weights = settings.weights or [1.0] * len(settings.runs)
    kept = [
        [
            args.merged / run / f"seed-{seed}"
            for seed in params.runs[run].seeds
            if (args.merged / run / f"seed-{seed}").is_dir()
        ]
        for run in settings.runs
    ]
    norms = {}
    for sources in zip(*kept, strict=True):
        seed = sources[0].name
        norms[seed] = mix(member, list(sources), weights, base, args.out / seed, settings.seed)
        print(f"mix {args.name}: {seed}: norms of task vectors {norms[seed]}")
    write_json(args.out / "norms.json", norms)


if __name__ == "__main__":
    sys.exit(command.main("stages.mix"))
