"""Where the points of a sweep come from: all of a grid, in its order, or a study of Optuna's, asked and told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cli.sweeping.file import Point, Range, Sweep
from knowtune.common.errors import UserError
from knowtune.common.files import text_digest

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

JOURNAL = "study.log"


class Source(Protocol):
    """What gives points, one after the other."""

    def next(self) -> Point | None:
        """Return a point to run, or None where there is none (any more)."""

    def tell(self, point: Point, value: float | None) -> None:
        """Take what a point came to; None: it failed."""


class GridSource:
    """All points of a grid."""

    def __init__(self, sweep: Sweep) -> None:
        self._left = sweep.grid()

    def next(self) -> Point | None:
        """Return the next point."""
        return self._left.pop(0) if self._left else None

    def tell(self, point: Point, value: float | None) -> None:
        """Learn nothing."""


class StudySource:
    """A study of Optuna's, kept in a file of the sweep's folder: what a killed one had begun is run first.

    Each trial has a sampler of its own, seeded by the study's seed and the trial's number. So with one worker a study
    that was interrupted tries the same as one that was not; with several, what is tried hangs on which ends first.
    """

    def __init__(self, sweep: Sweep, folder: Path) -> None:
        try:
            import optuna
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend
        except ImportError as error:
            raise UserError(
                "a study needs Optuna: `make extra NAME=sweep` installs it; a grid needs nothing"
            ) from error
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        options = sweep.options
        assert options.study is not None
        assert options.space is not None
        self._sweep, self._trials = sweep, options.study
        self._space = {path: _distribution(space) for path, space in options.space.items()}
        storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
        name = text_digest([sweep.shared, options.model_dump(exclude={"study": {"trials"}})])[:12]
        self._study = optuna.create_study(
            storage=storage, study_name=name, direction=options.direction, load_if_exists=True
        )
        trials = self._study.get_trials(deepcopy=False)
        running, complete = optuna.trial.TrialState.RUNNING, optuna.trial.TrialState.COMPLETE
        begun = [(t.number, dict(t.params)) for t in trials if t.state == running and t.params]
        done = [(t.number, dict(t.params)) for t in trials if t.state == complete]
        self._again = [*done, *begun]
        self._known = {number for number, _ in done}
        self._left = self._trials.trials - len(self._again)

    def next(self) -> Point | None:
        """Return what was run or begun before, then what the sampler proposes."""
        if self._again:
            number, values = self._again.pop(0)
            return self._sweep.point(values, number)
        if self._left <= 0:
            return None
        self._left -= 1
        import optuna

        number = len(self._study.get_trials(deepcopy=False))
        self._study.sampler = optuna.samplers.TPESampler(seed=self._trials.seed + number, constant_liar=True)
        trial = self._study.ask(self._space)
        return self._sweep.point(dict(trial.params), trial.number)

    def tell(self, point: Point, value: float | None) -> None:
        """Hand a trial's value in."""
        from optuna.trial import TrialState

        if point.number not in self._known:
            self._study.tell(point.number, value, state=None if value is not None else TrialState.FAIL)


def source_of(sweep: Sweep, folder: Path) -> Source:
    """Return where a sweep's points come from."""
    return GridSource(sweep) if sweep.options.grid else StudySource(sweep, folder)


def _distribution(space: Range | list[Any]) -> BaseDistribution:
    """Return Optuna's word for a range or a list of choices."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(space, Range):
        return CategoricalDistribution(space)
    if isinstance(space.low, int) and isinstance(space.high, int):
        return IntDistribution(space.low, space.high, log=space.log, step=int(space.step or 1))
    return FloatDistribution(space.low, space.high, log=space.log, step=space.step)
