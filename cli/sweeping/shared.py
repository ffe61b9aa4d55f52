"""Which stages points share, so that they are run once and first; what is measured; and how long all of it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cli.checks import say_all
from cli.plan import known_seconds
from cli.sweeping.file import Point, Sweep
from knowtune.common.errors import UserError, unknown
from knowtune.common.files import text_digest
from stages.core.pipeline import CHECK, PROJECT, Stage, quick_yaml, resolve

EVALUATIONS = ("evaluate-run", "evaluate-mixture")


@dataclass(frozen=True)
class Piece:
    """Stages to run in one point's workspace, in dvc.yaml's order, before the points are run in parallel."""

    point: Point
    stages: tuple[str, ...]


def stages_of(point: Point) -> dict[str, Stage]:
    """Resolve the pipeline of a point."""
    return resolve(quick_yaml(PROJECT / "dvc.yaml"), say_all(dict(point.params)))


def needs_of(stages: Mapping[str, Stage]) -> dict[str, list[str]]:
    """Return which stages each one needs, but for the check."""
    made = {out: name for name, stage in stages.items() if name != CHECK for out in stage.outs}

    def makers(dep: str) -> list[str]:
        return [n for out, n in made.items() if out == dep or out.startswith(f"{dep}/") or dep.startswith(f"{out}/")]

    return {name: [n for dep in stage.deps for n in makers(dep) if n != name] for name, stage in stages.items()}


def signatures(stages: Mapping[str, Stage]) -> dict[str, str]:
    """Digest what decides the outs of each stage: its command and params, and the same of all it needs."""
    needs, known = needs_of(stages), dict[str, str]()

    def sign(name: str) -> str:
        if name not in known:
            stage = stages[name]
            known[name] = text_digest([stage.command, stage.params, [sign(need) for need in needs[name]]])
        return known[name]

    return {name: sign(name) for name in stages}


def closure(stages: Mapping[str, Stage], targets: Sequence[str]) -> list[str]:
    """Return the targets (stages or families) and all that they need, in dvc.yaml's order.

    Raises:
        UserError: there is no such stage.
    """
    needs, todo = needs_of(stages), list[str]()
    for target in targets:
        members = [name for name in stages if name == target or name.partition("@")[0] == target]
        if not members:
            raise unknown("stage", target, stages)
        todo += members
    reached: set[str] = set()
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += needs[name]
    return [name for name in stages if name in reached]


def default_targets(sweep: Sweep) -> list[str]:
    """Return the evaluations that the values have an effect on, and that of the objective.

    Raises:
        UserError: there are none.
    """
    if sweep.options.targets:
        return list(sweep.options.targets)
    signed = [signatures(stages_of(point)) for point in sweep.corners()]
    names = [n for n in signed[0] if n.partition("@")[0] in EVALUATIONS]
    differ = [name for name in names if len({one.get(name) for one in signed}) > 1]
    model = (sweep.options.objective or "").partition(".")[0]
    wanted = [name for name in names if name in differ or (model and name.partition("@")[2] == model)]
    if not differ:
        paths = ", ".join(sweep.paths)
        raise UserError(f"{sweep.name}: no run's evaluation depends on {paths}; name `targets`, or other paths")
    return wanted


def pieces(points: Sequence[Point], targets: Sequence[str]) -> list[Piece]:
    """Return what several points share, each part in the workspace of the first that needs it."""
    signed, reached = [], []
    for point in points:
        stages = stages_of(point)
        signed.append(signatures(stages))
        reached.append(closure(stages, targets))
    counts = Counter(one[name] for one, names in zip(signed, reached, strict=True) for name in names)
    done: set[str] = set()
    shared = []
    for point, one, names in zip(points, signed, reached, strict=True):
        own = tuple(name for name in names if counts[one[name]] > 1 and one[name] not in done)
        done |= {one[name] for name in own}
        if own:
            shared.append(Piece(point, own))
    return shared


@dataclass(frozen=True)
class Estimate:
    """What would run: the shared pieces, then each point's own stages; seconds of each, None where nobody knows."""

    shared: list[tuple[Piece, float]]
    points: list[tuple[Point, int, float]]
    unknown: list[str]
    seconds: float


def estimate(points: Sequence[Point], targets: Sequence[str], workers: int) -> Estimate:
    """Work out what would run and about how long, from the books of earlier runs; stages without an entry count 0."""
    first = pieces(points, targets) if len(points) > 1 else []
    taken = known_seconds(PROJECT)
    shared_of = {id(piece.point): set(piece.stages) for piece in first}
    everywhere = [(signatures(stages_of(piece.point))[name]) for piece in first for name in piece.stages]
    missing: set[str] = set()

    def seconds(names: Sequence[str]) -> float:
        missing.update(name for name in names if taken(name) is None)
        return sum(taken(name) or 0.0 for name in names)

    shared = [(piece, seconds(piece.stages)) for piece in first]
    rest = []
    for point in points:
        stages = stages_of(point)
        signed = signatures(stages)
        own = [
            name
            for name in closure(stages, targets)
            if name not in shared_of.get(id(point), ()) and signed[name] not in everywhere
        ]
        rest.append((point, len(own), seconds(own)))
    total = sum(needs for _, needs in shared) + sum(needs for *_, needs in rest) / workers
    return Estimate(shared, rest, sorted(missing), total)
