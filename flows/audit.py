"""`python -m flows.audit`: measure the champion again, and say what differs from what was recorded of it.

Its files are compared with the digests of its record, and the model is evaluated as a run's is: on the examples, the
general texts and every set of `evaluate.retention`, beside the base. What was recorded is its metrics when it was
promoted. With --record, what is measured now takes the place of what the gate compares with: a later model is then
judged on the same examples, where these have changed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from cli.claim import claim_folder
from cli.workspace import add_arguments, open_workspace, params_file
from flows.promote import quiet
from knowtune.common.errors import UserError
from knowtune.common.files import read_json, read_rows, write_json
from knowtune.common.secrets import mask_output
from stages.core.champion import CARD, FOLDER, RESULTS, compact, read_champion, write_champion
from stages.core.params import PARAMS, load_params
from stages.promotion.measuring import base_digest, evaluate, other_examples

if TYPE_CHECKING:
    from stages.tracking.fetching import Fetched

EXAMPLE = "python -m flows.audit\n  python -m flows.audit --record"
PLACE, LAST = Path(".work/registered"), Path(".work/audit.json")
TOLERANCE = 1e-6  # of metrics; equal bytes on one kind of CPU, see docs/guide/reproducing.md


@dataclass(frozen=True)
class Audit:
    """What was found of the champion.

    Args:
        version: its address.
        metrics: as measured now.
        recorded: as measured when it was promoted.
        differ: what is not as it was, in sentences; none where all is.
        equal: how many metrics are.
    """

    version: str
    metrics: Mapping[str, float]
    recorded: Mapping[str, float]
    differ: list[str] = field(default_factory=list)

    @property
    def equal(self) -> int:
        """Count the metrics that are as they were."""
        return sum(not _differs(self.metrics.get(name), value) for name, value in self.recorded.items())


def audit(project: Path, *, record: bool = False, wait: bool = False) -> Audit:
    """Measure the champion again and compare.

    Args:
        project: the project's folder or a workspace's.
        record: let what is measured now be what the gate compares with.
        wait: until a reproduction under way there has ended.

    Raises:
        UserError: there is no champion, it has lost its files, the registry cannot be reached, or the folder lacks what
            a model is evaluated with.
    """
    from stages.tracking.fetching import fetch, find_version

    folder = project.resolve()
    params = load_params(folder / PARAMS)
    registry, version = find_version("champion", params.promote.model if params.promote is not None else "knowtune")
    shutil.rmtree(folder / PLACE / version.name, ignore_errors=True)  # what the registry has today is to be compared
    found = fetch(registry, version, folder / PLACE)
    recorded = read_json(found.record / FOLDER / CARD)
    with claim_folder(folder, wait=wait), TemporaryDirectory(dir=_work(folder)) as top:
        evaluated = evaluate(folder, found, recorded, Path(top))
        metrics = read_json(evaluated / "metrics.json")["seeds"][str(recorded["seed"])]
        examples = read_rows(evaluated / "examples.jsonl")
        differ = [*_differences_here(folder, found, recorded), *_compare(metrics, recorded["metrics"])]
        if record:
            now = {**recorded, "metrics": metrics, "model": version.name, "version": version.number}
            write_champion(folder / FOLDER, now, compact(examples, numeric=params.task.kind == "regression"))
    done = Audit(version.uri, metrics, recorded["metrics"], differ)
    write_json(folder / LAST, {"version": done.version, "metrics": dict(metrics), "differ": differ})
    return done


def refresh(project: Path, *, wait: bool = False) -> bool:
    """Measure the champion on the examples that lie there now, if the gate would compare with its results on others.

    Returns:
        Whether it was measured, so that the gate has to judge again.

    Raises:
        UserError: see `audit`.
    """
    folder = project.resolve()
    promote = load_params(folder / PARAMS).promote
    if (
        promote is None
        or read_champion(folder / FOLDER, promote.model) is None
        or not any(other_examples(folder, folder / FOLDER / RESULTS))
    ):
        return False
    audit(folder, record=True, wait=wait)
    return True


def _work(folder: Path) -> Path:
    """Return the folder for what is left behind by nobody."""
    work = folder / ".work"
    work.mkdir(exist_ok=True)
    return work


def _differences_here(folder: Path, found: Fetched, recorded: Mapping[str, Any]) -> Iterator[str]:
    """Say where this folder is not what the champion was made with, and what the gate compares with is not it."""
    try:
        known = read_champion(folder / FOLDER, found.version.name)
    except UserError as error:
        yield str(error)
        known = None
    compared = None if known is None else known["version"]
    if compared != found.version.number:
        yield f"{FOLDER}/ says version {compared or '(none)'}, and the registry's champion is {found.version.number}"
    base = base_digest(folder)
    if base != recorded["base_digest"]:
        yield f"the base has the digest {base[:12]}, and the champion's had {recorded['base_digest'][:12]}"
    new, gone = other_examples(folder, found.record / FOLDER / RESULTS)
    if new or gone:
        yield f"it was promoted on other examples: {new} are new, {gone} are gone; --record measures it on these"


def _compare(metrics: Mapping[str, float], recorded: Mapping[str, float]) -> Iterator[str]:
    """Say which metrics are not as they were."""
    for name, value in recorded.items():
        now = metrics.get(name)
        if now is None:
            yield f"{name} was {value:.4f} and is not measured any more"
        elif _differs(now, value):
            yield f"{name} was {value:.4f} and is {now:.4f}"


def _differs(now: float | None, before: float) -> bool:
    """Tell whether a metric is another one."""
    return now is None or abs(now - before) > TOLERANCE


def main() -> int:
    """Parse the command line; errors of the user's are printed without a traceback."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.audit",
        description=__doc__,
        epilog=f"example:\n  {EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    parser.add_argument("--record", action="store_true", help="let the gate compare with what is measured now")
    parser.add_argument("--wait", action="store_true", help="wait until a reproduction in this folder has ended")
    args = parser.parse_args()
    mask_output()
    quiet()
    try:
        done = audit(open_workspace(params_file(args), args.data, wait=args.wait), record=args.record, wait=args.wait)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{done.version}: {done.equal} of {len(done.recorded)} metrics are as they were when it was promoted")
    for line in done.differ:
        print(f"differs: {line}")
    return 1 if done.differ else 0


if __name__ == "__main__":
    sys.exit(main())
