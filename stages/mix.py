"""Mix merged models into one: those of several runs seed by seed, first with first, or all seeds of all runs.

Mixtures depend on the whole folder of merged models, because DVC cannot put a list of names into a stage's deps.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.runner import command

if TYPE_CHECKING:
    import torch

    from knowtune.merging.choose import Heldout
    from knowtune.merging.mixtures.base import Mixture
    from stages.core.schema import MixtureParams, Params

EXAMPLE = "python -m stages.mix --name soup --merged data/merged --validation data/prepared/validation.jsonl \\\n    --replay data/prepared/replay.jsonl --base data/base --out data/mixed/soup"  # noqa: E501


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--name", required=True, help="a name under `mixtures` in params.yaml")
    parser.add_argument("--merged", type=Path, required=True, help="folder of all merged runs")
    parser.add_argument("--base", type=Path, required=True, help="the base stage's folder")
    parser.add_argument("--validation", type=Path, required=True, help="rows on which one of several alphas is chosen")
    parser.add_argument("--replay", type=Path, required=True, help="known rows that may be replayed, for the same")
    parser.add_argument("--out", type=Path, required=True, help="folder for one seed-N folder per mixture")


def run(args: argparse.Namespace, params: Params) -> None:
    """Mix what belongs together; a mixture is named after the first seed of its first run."""
    from knowtune.common.errors import unknown
    from knowtune.common.files import write_json
    from knowtune.merging.choose import CURVE, choose, curve_table, trace_curve
    from knowtune.merging.mix import mix
    from knowtune.merging.mixtures import MIXTURES
    from knowtune.registry import member_class
    from stages.core.models import open_base

    if args.name not in params.mixtures:
        raise unknown("mixture", args.name, params.mixtures)
    settings = params.mixtures[args.name]
    base = open_base(params, args.base)
    member = member_class(MIXTURES, "mixture", settings.strategy)(**settings.options)
    choice, norms, curves = member.choice, {}, {}
    if choice is not None:
        _warn_of_replayed(args.name, settings, params)
    for sources, weights in _seeds(settings, params, args.merged):
        seed = sources[0].name
        where: Any = (sources, weights, base, args.out / seed, settings.seed)
        mixture = member
        if choice is not None:
            rows, label = _heldout(args, params), f"mix {args.name}, {seed}"
            curve = trace_curve(choice, partial(_mixed, where), base, rows, label)
            chosen = choose(curve, choice.max_forgotten)
            curves[int(seed.removeprefix("seed-"))] = curve, chosen
            _announce(label, chosen, choice.max_forgotten)
            mixture = choice.candidates[chosen.alpha]
        norms[seed] = mix(mixture, *where)
        print(f"mix {args.name}: {seed}: norms of task vectors {norms[seed]}")
    write_json(args.out / "norms.json", norms)
    if curves:
        table = curve_table(curves)
        table.to_csv(args.out / CURVE, index=False)
        write_json(args.out / "alpha.json", _numbers(table))


def _seeds(settings: MixtureParams, params: Params, merged: Path) -> list[tuple[list[Path], list[float]]]:
    """List the merged models that become one, with a weight for each; `merge.keep: best` leaves one seed of a run.

    Where all seeds become one model, those of a run share its weight.
    """
    folders = [[merged / run / f"seed-{seed}" for seed in params.runs[run].seeds] for run in settings.runs]
    kept = [[folder for folder in of_run if folder.is_dir()] for of_run in folders]
    weights = settings.weights or [1.0] * len(kept)
    if settings.seeds == "all":
        shared = [weight / len(of_run) for weight, of_run in zip(weights, kept, strict=True) for _ in of_run]
        return [([folder for of_run in kept for folder in of_run], shared)]
    return [(list(sources), weights) for sources in zip(*kept, strict=True)]


def _mixed(where: tuple[Any, ...], mixture: Mixture) -> torch.nn.Module:
    """Mix a candidate in memory; `where`: see `knowtune.merging.mix.mix`."""
    from knowtune.merging.mix import mixed_model

    return mixed_model(mixture, *where)[0]


def _heldout(args: argparse.Namespace, params: Params) -> Heldout:
    """Read the rows that alpha is chosen on."""
    from knowtune.common.files import read_rows
    from knowtune.data.contract import ROW_COLUMNS, ROWS, check
    from knowtune.merging.choose import Heldout

    validation, replay = (
        check(read_rows(path, ROW_COLUMNS), ROWS, str(path)) for path in (args.validation, args.replay)
    )
    return Heldout(validation, replay, params.evaluate.batch_size)


def _warn_of_replayed(name: str, settings: MixtureParams, params: Params) -> None:
    """Say where a run has read in training the rows that its alpha is chosen on: it keeps them better than others."""
    runs = {run: params.runs[run].preserve for run in settings.runs}
    read = [run for run, preserve in runs.items() if preserve is not None and "known" in preserve.sources]
    if read:
        print(
            f"mix {name}: CAUTION: {', '.join(read)} read in training the known rows that alpha is chosen on, so it "
            "forgets more than the choice sees; let it keep `self` or `text`, or give a smaller max_forgotten",
            file=sys.stderr,
        )


def _announce(label: str, chosen: Any, bound: float) -> None:
    """Say what was chosen; loudly where every alpha forgets more than it may."""
    outcome = f"it learned {100 * chosen.learned:.1f} % and forgot {100 * chosen.forgotten:.1f} %"
    if chosen.forgotten <= bound:
        print(f"{label}: chose alpha {chosen.alpha:g}: {outcome}")
        return
    print(
        f"{label}: CAUTION: every alpha forgets more than max_forgotten, {100 * bound:g} %. Chose the one that forgets "
        f"least, alpha {chosen.alpha:g}: {outcome}. Give smaller alphas, or train with `preserve`",
        file=sys.stderr,
    )


def _numbers(table: Any) -> dict[str, Any]:
    """Give the curve and the choice of each seed as numbers, for tracking."""
    return {
        f"seed-{seed}": {
            "chosen": float(rows.loc[rows["chosen"], "alpha"].iloc[0]),
            **{name: dict(zip(map(str, rows["alpha"]), rows[name], strict=True)) for name in ("learned", "forgotten")},
        }
        for seed, rows in table.groupby("seed")
    }


if __name__ == "__main__":
    sys.exit(command.main("stages.mix"))
