"""`python -m flows.promote`: register the model that the gate lets through, and let the alias `champion` point at it.

The version is registered whole, then `candidate` points at it, then `previous` at the old champion, `champion` at the
new one, and at last the folder `champion/` says so, which the gate compares with. A promotion that is cut short at any
point is finished by the same command. Nothing moves where the verdict is `none`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from cli.claim import claim_folder
from cli.workspace import add_arguments, open_workspace, params_file
from flows.record import announce, prune, register
from knowtune.common.errors import UserError
from knowtune.common.secrets import mask_output
from stages.core.champion import FOLDER, install_champion, read_champion
from stages.core.params import load_params
from stages.core.schema import Params
from stages.promotion.candidate import read_candidate, require_sound
from stages.promotion.verdict import read_verdict
from stages.runner.warm import QUIET

if TYPE_CHECKING:
    from stages.tracking.registry import Registry, Version

EXAMPLE = "python -m flows.promote\n  python -m flows.promote --rollback"


@dataclass(frozen=True)
class Promotion:
    """What became of a promotion.

    Args:
        promoted: whether the champion has changed.
        version: the champion's number now; None where there is none.
        previous: the number of the one before; None where there is none.
        reason: in a sentence.
    """

    promoted: bool
    version: str | None
    previous: str | None
    reason: str


def promote(project: Path, *, dry_run: bool = False, wait: bool = False) -> Promotion:
    """Register the model that the gate lets through and make it the champion, or say why not.

    Args:
        project: the project's folder or a workspace's.
        dry_run: say what would be done, and do nothing.
        wait: until a reproduction under way there has ended.

    Raises:
        UserError: there is no verdict, or it is of other files than lie there; the registry cannot be reached; its
            champion has no verdict, is of another task, or another one than the gate compared with.
    """
    folder = project.resolve()
    with _alone(folder, wait) as (params, registry):
        verdict, champion = read_verdict(folder), registry.by_alias("champion")
        number = champion.number if champion else None
        if champion is not None:
            _require_right(champion, params)
        if verdict["verdict"] != "ship":
            return Promotion(False, number, _number(registry, "previous"), verdict["summary"])
        candidate = read_candidate(folder, verdict)
        known = registry.by_key(candidate.key)
        if known is not None and known.rolled_back and number != known.number:
            reason = f"{candidate.title} is version {known.number}, which was rolled back; --to {known.number} takes it"
            return Promotion(False, number, _number(registry, "previous"), reason)
        if known is not None and number == known.number:
            if not dry_run:  # of a promotion that was cut short, the rest
                _crown(registry, known, folder)
                prune(registry, params)
            reason = f"{candidate.title} is the champion already, version {number}"
            return Promotion(False, number, _number(registry, "previous"), reason)
        _require_same(champion, registry.name, folder)
        require_sound(candidate)
        if dry_run:
            reason = f"would promote {candidate.title} as {announce(registry, candidate, champion, known)}"
            return Promotion(False, number, _number(registry, "previous"), reason)
        version = known or register(registry, candidate)
        registry.point("candidate", version.number)
        _crown(registry, version, folder)
        prune(registry, params)
        return Promotion(True, version.number, number, verdict["summary"])


def move_champion(project: Path, number: str = "", *, dry_run: bool = False, wait: bool = False) -> Promotion:
    """Make an older version the champion.

    Args:
        project: the project's folder or a workspace's.
        number: of the version; the previous champion where it is left out.
        dry_run: say what would be done, and do nothing.
        wait: until a reproduction under way there has ended.

    Raises:
        UserError: there is no such version, it has no verdict or has lost its files, or it is of another task.
    """
    from stages.tracking.releasing import require_files

    folder = project.resolve()
    with _alone(folder, wait) as (params, registry):
        old = _number(registry, "champion")
        target = registry.version(number) if number else registry.by_alias("previous")
        if target is None:
            raise UserError(f"{registry.name}: no version is called previous; --to VERSION names one")
        _require_right(target, params)
        require_files(registry, target)
        if dry_run:
            return Promotion(False, old, _number(registry, "previous"), f"would make version {target.number} champion")
        if not number and old is not None:
            registry.mark(old, rolled_back=True)  # so that the next verdict does not bring it back
        if target.rolled_back:
            registry.mark(target.number, rolled_back=False)
        _crown(registry, target, folder)
        reason = f"version {target.number} is the champion" + (" already" if old == target.number else "")
        return Promotion(old != target.number, target.number, _number(registry, "previous"), reason)


@contextmanager
def _alone(folder: Path, wait: bool) -> Iterator[tuple[Params, Registry]]:
    """Have the folder to oneself, and open its registry."""
    from stages.tracking.paths import hold_lock
    from stages.tracking.registry import open_registry

    params = load_params(folder / "params.yaml")
    if params.promote is None:
        raise UserError(f"{folder / 'params.yaml'}: promote: got nothing; allowed: a section that says what is shipped")
    with claim_folder(folder, wait=wait), hold_lock("promotion", wait=True):
        yield params, open_registry(params.promote.model)


def _number(registry: Registry, alias: str) -> str | None:
    """Return the number of the version that an alias points at."""
    version = registry.by_alias(alias)
    return version.number if version is not None else None


def _require_right(version: Version, params: Params) -> None:
    """Refuse a version without a verdict, as an alias set by hand may name, and one of another task."""
    if not version.has_verdict:
        raise UserError(
            f"{version.uri}: has no verdict of the gate, and only one that has may be champion; "
            "`python -m flows.promote --to VERSION` names one that has"
        )
    task = json.loads(version.tags.get("task", "{}"))
    if task != params.task.model_dump():
        raise UserError(
            f"{version.uri}: is of another task: got {task}; allowed: {params.task.model_dump()}, the task of "
            "params.yaml; give promote.model another name"
        )


def _require_same(champion: Version | None, model: str, folder: Path) -> None:
    """Refuse a verdict that is on another champion than the registry's."""
    known = read_champion(folder / FOLDER, model)
    compared = None if known is None else known["version"]
    if compared != (champion.number if champion else None):
        heal = (
            f"`python -m flows.promote --to {champion.number}` writes {FOLDER}/ anew"
            if champion
            else f"put {{}} into {FOLDER}/card.json, or let --to VERSION choose a champion"
        )
        raise UserError(
            f"the gate compared with version {compared or '(none)'}, and the registry's champion is "
            f"{champion.number if champion else '(none)'}; {heal}, then `make run` judges again"
        )


def _crown(registry: Registry, version: Version, folder: Path) -> None:
    """Let the alias point at a version, the one before become `previous`, and write what the gate compares with."""
    from stages.tracking.registry import RECORD

    with TemporaryDirectory() as top:
        record = registry.fetch(version, RECORD, Path(top))
        old = _number(registry, "champion")
        if old != version.number:
            if old is not None:
                registry.point("previous", old)
            registry.point("champion", version.number)
        known: Mapping[str, Any] = {}
        with suppress(UserError):  # a damaged one is written anew
            known = read_champion(folder / FOLDER, registry.name) or {}
        if known.get("version") != version.number:
            install_champion(record / FOLDER, folder / FOLDER, registry.name, version.number)


def main() -> int:
    """Parse the command line; errors of the user's are printed without a traceback."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.promote",
        description=__doc__,
        epilog=f"example:\n  {EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--rollback", action="store_true", help="make the previous champion the champion again")
    which.add_argument("--to", metavar="VERSION", default="", help="make a version the champion")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument("--strict", action="store_true", help="end with 1 where the champion has not changed")
    parser.add_argument("--wait", action="store_true", help="wait until a reproduction in this folder has ended")
    args = parser.parse_args()
    mask_output()
    quiet()
    try:
        folder = open_workspace(params_file(args), args.data, wait=args.wait)
        how: Mapping[str, Any] = {"dry_run": args.dry_run, "wait": args.wait}
        moving = args.rollback or args.to
        done = move_champion(folder, args.to, **how) if moving else promote(folder, **how)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130
    tell(done)
    return 1 if args.strict and not done.promoted else 0


def tell(done: Promotion) -> None:
    """Print what became of a promotion."""
    now = f"champion: {'version ' + done.version if done.version else 'none'}"
    before = f", previous: version {done.previous}" if done.previous else ""
    print(f"{'promoted' if done.promoted else 'not promoted'}: {done.reason}\n{now}{before}")
    if done.promoted:
        print(f"commit {FOLDER}/ and dvc.lock, so that the next comparison starts from there")


def quiet() -> None:
    """Keep MLflow's and the hub's chatter off the terminal."""
    import warnings

    for name, value in {**QUIET, "MLFLOW_LOGGING_LEVEL": "ERROR", "MLFLOW_CONFIGURE_LOGGING": "true"}.items():
        os.environ.setdefault(name, value)
    warnings.simplefilter("ignore")


if __name__ == "__main__":
    sys.exit(main())
