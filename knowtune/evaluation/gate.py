"""The gate: which model is to be shipped and why, or why none. Rules over what was measured; the verdict is plain data.

    new         the model is not the champion already
    learned     lower end of the paired interval of (candidate - champion) above 0; the base stands in for a champion
    BOUND       the shipped seed's metric, or its change on a retention set, no worse than its bound
    parity      the merged model computes what was trained
    planted     share of damage that was planted among the rows that the run's filter keeps
    unreviewed  share of the rows read that were rejected and that nobody has reviewed

The comparison pairs examples, and its interval covers the choice of facts and of seeds (`knowtune.evaluation.paired`):
all seeds of the candidate's run against all of the champion's. What is shipped is one seed, and what it lost is bounded
by its own value; the interval beside it is its run's, over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from knowtune.common.errors import UserError
from knowtune.evaluation.paired import Comparison, Results, compare

SHIP, NONE = "ship", "none"
NEW = "new"
SOUND = ("parity", "planted", "unreviewed")  # rules that say nothing of what was learned or lost


@dataclass(frozen=True)
class Check:
    """One rule, applied.

    Args:
        name: of the rule.
        passed: whether it holds.
        text: value and bound in words.
        value: what was measured; None where it was not.
        bound: what is allowed.
        low: lower end of the value's interval; None where there is none.
        high: its upper end.
    """

    name: str
    passed: bool
    text: str
    value: float | None = None
    bound: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Bound:
    """What a number must not be worse than.

    Args:
        limit: the last value that is allowed.
        higher: whether higher is better.
        share: whether it is a share, shown in percent.
    """

    limit: float
    higher: bool
    share: bool


@dataclass(frozen=True)
class Rules:
    """What a model has to meet; see the module's text.

    Args:
        learned: the part of the evaluation in which it must be better.
        binary: whether that part's examples are right or wrong; else they have a loss.
        bounds: by metric or retention set.
        measured: metrics and sets that the base has a value of; of others the data has nothing to measure.
        planted: largest share of planted damage.
        unreviewed: largest share of rejects that nobody has reviewed.
    """

    learned: str
    binary: bool
    bounds: Mapping[str, Bound]
    measured: frozenset[str]
    planted: float
    unreviewed: float


@dataclass(frozen=True)
class Candidate:
    """A run or mixture as it was measured.

    Args:
        run: its name.
        seed: the one that would be shipped.
        identity: by which that seed's model is known again.
        results: of all seeds, on what was to be learned.
        values: the shipped seed's metrics and changes on retention sets.
        spread: of each, mean and half width over the seeds.
        parity: largest difference of the shipped seed's logits, and the allowed one; None of a mixture, which has none.
        planted: share of planted damage among the rows that its filter keeps.
    """

    run: str
    seed: int
    identity: str
    results: Results
    values: Mapping[str, float]
    spread: Mapping[str, Mapping[str, Any]]
    parity: tuple[float, float] | None
    planted: float


@dataclass(frozen=True)
class Rival:
    """What a candidate has to beat: the champion, or without one the base.

    Args:
        name: in words, e.g. "the base".
        results: on what was to be learned; None where they cannot be used.
        fault: why they cannot, and what to do.
        identity: by which the champion is known again; "" of the base.
    """

    name: str
    results: Results | None
    fault: str = ""
    identity: str = ""


def check_candidate(of: Candidate, rules: Rules, rival: Rival, unreviewed: float) -> list[Check]:
    """Apply every rule to a candidate.

    Args:
        of: the candidate.
        rules: to apply.
        rival: what it has to beat.
        unreviewed: share of the rows read that were rejected and that nobody has reviewed.
    """
    known = of.identity == rival.identity
    return [
        Check(NEW, not known, f"it is {'' if known else 'not '}{rival.name}{' already' if known else ''}"),
        _check_learned(of, rules, rival),
        *(_check_bound(of, name, bound, rules.measured) for name, bound in rules.bounds.items()),
        _check_parity(of.parity),
        _check_share("planted", of.planted, rules.planted, "of the rows that its filter keeps are planted damage"),
        _check_share("unreviewed", unreviewed, rules.unreviewed, "of the rows read are rejects that nobody reviewed"),
    ]


def give_verdict(
    checked: Mapping[str, Sequence[Check]], candidates: Mapping[str, Candidate], named: Sequence[str]
) -> dict[str, Any]:
    """Say which model is to be shipped.

    Args:
        checked: each candidate's checks.
        candidates: by name, those of `named` among them.
        named: the run that params.yaml names, or those of the rule, the best first.

    Returns:
        verdict, run, seed, summary, checks (of the run shipped, else of the first named), candidates.
    """
    good = [name for name in named if not _failed(checked[name])]
    chosen = (good or list(named))[0]
    failed = _failed(checked[chosen])
    who = f"{chosen}, seed {candidates[chosen].seed}"
    others = f"; nor does any other of {', '.join(named)} pass" if not good and len(named) > 1 else ""
    reason = "; ".join(check.text for check in failed) + others if failed else _praise(checked[chosen])
    return {
        "verdict": NONE if failed else SHIP,
        "run": None if failed else chosen,
        "seed": None if failed else candidates[chosen].seed,
        "judged": chosen,
        "summary": f"ship none: {who}: {reason}" if failed else f"ship {who}: {reason}",
        "checks": [asdict(check) for check in checked[chosen]],
        "candidates": [
            {"run": name, "passed": not _failed(checks), "failed": [check.text for check in _failed(checks)]}
            for name, checks in checked.items()
        ],
    }


def no_verdict(reason: str) -> dict[str, Any]:
    """Give the verdict where nothing can be judged."""
    rest: dict[str, Any] = {"run": None, "seed": None, "judged": None, "checks": [], "candidates": []}
    return {"verdict": NONE, "summary": f"ship none: {reason}", **rest}


def _failed(checks: Sequence[Check]) -> list[Check]:
    """Pick the rules that do not hold; of a model that is the champion already, no other rule says anything."""
    failed = [check for check in checks if not check.passed]
    return [check for check in failed if check.name == NEW] or failed


def _praise(checks: Sequence[Check]) -> str:
    """Say why a model is to be shipped: what it learned, and that nothing is beyond its bound."""
    return "; ".join(check.text for check in checks if check.name not in (NEW, *SOUND))


def _check_learned(of: Candidate, rules: Rules, rival: Rival) -> Check:
    """Compare with the rival, example by example."""
    if rival.results is None:
        return Check("learned", False, rival.fault)
    try:
        found = compare(rules.learned, rival.results, of.results, binary=rules.binary)
    except UserError as error:
        return Check("learned", False, f"{error}; or, for a champion, `python -m flows.audit --record` does")
    better = found.low > 0 if rules.binary else found.high < 0
    text = _compared(rules, found, rival.name, better)
    return Check("learned", better, text, found.difference, 0.0, found.low, found.high)


def _compared(rules: Rules, found: Comparison, name: str, better: bool) -> str:
    """Say in words how a comparison ended."""
    if not rules.binary:
        span = f"{found.difference:+.3f}, 95 % interval {found.low:+.3f} to {found.high:+.3f}"
        levels = f"{found.b:.3f} against {found.a:.3f} of {name}"
    else:
        span = f"{100 * found.difference:+.1f} points, 95 % interval {100 * found.low:+.1f} to {100 * found.high:+.1f}"
        levels = f"{100 * found.b:.1f} % against {100 * found.a:.1f} % of {name}"
    return f"{rules.learned} {levels}: {span}{'' if better else ', which is not beyond the noise'}"


def _check_bound(of: Candidate, name: str, bound: Bound, measured: frozenset[str]) -> Check:
    """Hold a metric, or a change on a retention set, against its bound."""
    scale, digits, sign = (100, 1, " %") if bound.share else (1, 3, "")
    allowed = f"{'at least' if bound.higher else 'at most'} {scale * bound.limit:.{digits}f}{sign}"
    value = of.values.get(name)
    if value is None:
        why = "has no finite value" if name in measured else "has nothing that it could be measured on"
        return Check(name, name not in measured, f"{name} {why} ({allowed})", None, bound.limit)
    passed = value >= bound.limit if bound.higher else value <= bound.limit
    spread = of.spread.get(name, {})
    half = spread.get("half_width")
    low, high = (None, None) if half is None else (spread["mean"] - half, spread["mean"] + half)
    text = f"{name} {scale * value:.{digits}f}{sign} ({allowed})"
    return Check(name, passed, text, value, bound.limit, low, high)


def _check_parity(parity: tuple[float, float] | None) -> Check:
    """Hold the difference of logits against what is allowed."""
    if parity is None:
        return Check("parity", True, "a mixture has no attached model to differ from")
    value, allowed = parity
    shown = value if math.isfinite(value) else None
    return Check("parity", value <= allowed, f"parity {value:.1e} (at most {allowed:.1e})", shown, allowed)


def _check_share(name: str, value: float, limit: float, what: str) -> Check:
    """Hold a share of rows against its bound."""
    text = f"{100 * value:.1f} % {what} (at most {100 * limit:.1f} %)"
    return Check(name, value <= limit, text, value, limit)
