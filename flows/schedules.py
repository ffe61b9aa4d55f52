"""`prefect.yaml` read and checked before anything is deployed, and compared with what a server holds.

Prefect passes over a key that it does not know, deploys one deployment after another until one is wrong, and keeps
schedules that were taken out of the file. All three would be noticed weeks later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

from knowtune.common.errors import Problem, UserError, nearest, raise_gathered
from stages.core.params import read_yaml

FILE = Path("prefect.yaml")
POOL = "knowtune"  # of processes on the machine of its worker; `make serve` starts one
KEYS = frozenset(
    "name version version_type tags description schedules paused concurrency_limit flow_name entrypoint parameters "
    "enforce_parameter_schema build push pull work_pool triggers sla".split()
)
KINDS = {  # the keys of a schedule, by what kind it is
    "cron": {"timezone", "day_or"},
    "interval": {"timezone", "anchor_date"},
    "rrule": {"timezone"},
}
COMMON = {"slug", "active", "parameters", "replaces"}
EXAMPLES = {
    "cron": "minute, hour, day, month, weekday, such as '0 2 * * *'",
    "interval": "seconds between two runs, such as 604800",
    "rrule": "a rule of RFC 5545, such as 'FREQ=MONTHLY'",
    "timezone": "a name of the IANA list, such as 'Europe/Berlin'",
}


@dataclass(frozen=True)
class Schedule:
    """When a deployment runs."""

    when: str  # in words that are equal where the schedules are
    active: bool
    id: str = ""  # on the server


@dataclass(frozen=True)
class Deployment:
    """A deployment, as the file or the server has it; its schedules by slug."""

    schedules: Mapping[str, Schedule]
    pool: str
    paused: bool = False


def read_deployments(path: Path = FILE) -> dict[str, Deployment]:
    """Read the deployments of a file, by name.

    Raises:
        UserError: what is wrong with the file, all of it.
    """
    raw = read_yaml(path)
    sections = raw.get("deployments") or []
    if not isinstance(sections, list) or not all(isinstance(section, dict) for section in sections):
        raise UserError(f"{path}: deployments: got {type(sections).__name__}; allowed: a list of mappings")
    problems = [problem for i, section in enumerate(sections) for problem in _faults(section, i)]
    names = [str(section.get("name")) for section in sections]
    problems += [
        Problem("deployments", f"{name!r} twice", "names of their own") for name in set(names) if names.count(name) > 1
    ]
    raise_gathered(str(path), problems)
    return {
        name: Deployment(
            {one["slug"]: Schedule(described(built(one)), one.get("active", True)) for one in _schedules(section)},
            section["work_pool"]["name"],
        )
        for name, section in zip(names, sections, strict=True)
    }


def _faults(section: Mapping[str, Any], i: int) -> Iterator[Problem]:
    """List what is wrong with one deployment."""
    where = f"deployments.{section.get('name', i)}"
    for key in section.keys() - KEYS:
        yield Problem(f"{where}.{key}", "a key that Prefect passes over", "no such key", nearest(key, KEYS))
    if not section.get("name"):
        yield Problem(f"{where}.name", "nothing", "a name")
    if not (isinstance(pool := section.get("work_pool"), dict) and pool.get("name")):
        yield Problem(f"{where}.work_pool.name", "nothing", "the name of a work pool")
    yield from _faults_of_entry(section, where)
    slugs = [one.get("slug") for one in _schedules(section)]
    for j, one in enumerate(_schedules(section)):
        yield from _faults_of_schedule(one, f"{where}.schedules.{one.get('slug', j)}", slugs)


def _faults_of_entry(section: Mapping[str, Any], where: str) -> Iterator[Problem]:
    """List what is wrong with what a deployment runs, and with what it gives it."""
    from prefect.flows import load_flow_from_entrypoint

    entry = str(section.get("entrypoint"))
    try:
        known = load_flow_from_entrypoint(entry, use_placeholder_flow=False).parameters.properties
    except Exception as error:  # whatever an import may raise
        yield Problem(f"{where}.entrypoint", f"{entry!r} ({error})", "a flow, such as flows.deployments.nightly")
        return
    given = [section.get("parameters") or {}, *(one.get("parameters") or {} for one in _schedules(section))]
    for name in {name for parameters in given for name in parameters} - known.keys():
        allowed = ", ".join(known) or "none"
        yield Problem(f"{where}.parameters", repr(name), f"the flow's parameters: {allowed}", nearest(name, known))


def _faults_of_schedule(one: Mapping[str, Any], where: str, slugs: Sequence[Any]) -> Iterator[Problem]:
    """List what is wrong with one schedule."""
    if not one.get("slug") or slugs.count(one["slug"]) > 1:
        got = "nothing" if not one.get("slug") else f"{one['slug']!r} twice"
        yield Problem(f"{where}.slug", got, "a name of its own; else a new time makes a second schedule")
    kinds = [kind for kind in KINDS if kind in one]
    if len(kinds) != 1:
        yield Problem(where, " and ".join(kinds) or "no time", "one of cron, interval, rrule")
        return
    known = {kinds[0], *KINDS[kinds[0]], *COMMON}
    for key in one.keys() - known:
        yield Problem(f"{where}.{key}", "a key that this kind does not have", ", ".join(sorted(known)))
    if "interval" in one and "anchor_date" not in one:
        yield Problem(f"{where}.anchor_date", "nothing", "a time to count from, such as '2026-01-05T04:00:00+00:00'")
    if not isinstance(one.get("active", True), bool):
        yield Problem(f"{where}.active", repr(one["active"]), "true or false")
    if one.keys() <= known:
        try:
            built(one)
        except ValueError as error:
            zone = "timezone" in str(error).lower()
            key = "timezone" if zone else kinds[0]
            yield Problem(f"{where}.{key}", repr(one.get(key)), EXAMPLES[key])


def _schedules(section: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a deployment's schedules."""
    return [one for one in section.get("schedules") or [] if isinstance(one, dict)]


def built(one: Mapping[str, Any]) -> Any:
    """Build Prefect's schedule of a section of the file.

    Raises:
        ValueError: Prefect does not take it.
    """
    from prefect.client.schemas import schedules

    kinds: dict[str, Any] = {
        "cron": schedules.CronSchedule,
        "interval": schedules.IntervalSchedule,
        "rrule": schedules.RRuleSchedule,
    }
    kind = next(kind for kind in kinds if kind in one)
    return kinds[kind].model_validate({key: one[key] for key in (kind, *sorted(KINDS[kind])) if key in one})


def described(schedule: Any) -> str:
    """Say in words when a schedule of Prefect's fires."""
    zone = schedule.timezone or "UTC"
    if hasattr(schedule, "cron"):
        return f"cron {schedule.cron!r}, {zone}"
    if hasattr(schedule, "interval"):
        anchor = schedule.anchor_date.astimezone(UTC)
        return f"every {schedule.interval}, counted from {anchor:%Y-%m-%d %H:%M:%S} UTC, {zone}"
    rules = [line for line in str(schedule.rrule).splitlines() if not line.startswith("DTSTART")]  # the server adds one
    return f"{' '.join(rules)}, {zone}"


def differences(project: str, wanted: Mapping[str, Deployment], present: Mapping[str, Deployment]) -> list[str]:
    """Say in which way a server's deployments are not those of the file, and what to do.

    Args:
        project: the name of the flow, which is the first half of a deployment's.
        wanted: what the file has.
        present: what the server has.
    """
    lines = []
    for name in present.keys() - wanted.keys():
        what = f"a ghost: the server runs it, {FILE} does not have it"
        lines.append(f"{name}: {what}; remove it: prefect deployment delete '{project}/{name}'")
    for name, deployment in wanted.items():
        if name not in present:
            lines.append(f"{name}: the server does not have it; `make deploy`")
            continue
        if present[name].paused:
            lines.append(f"{name}: paused on the server; `prefect deployment resume '{project}/{name}'`")
        lines += _differences_of_schedules(f"{project}/{name}", name, deployment, present[name])
    return sorted(lines)


def _differences_of_schedules(full: str, name: str, wanted: Deployment, present: Deployment) -> list[str]:
    """Compare the schedules of one deployment."""
    lines = []
    for slug in present.schedules.keys() - wanted.schedules.keys():
        ghost = present.schedules[slug]
        state = "runs it" if ghost.active else "keeps it, inactive"
        remove = f"prefect deployment schedule delete '{full}' {ghost.id}"
        what = f"a ghost ({ghost.when}): the server {state}, {FILE} does not have it"
        lines.append(f"{name}: schedule {slug}: {what}; remove it: {remove}")
    for slug, schedule in wanted.schedules.items():
        there = present.schedules.get(slug)
        if there is None:
            lines.append(f"{name}: schedule {slug}: the server does not have it; `make deploy`")
        elif (there.when, there.active) != (schedule.when, schedule.active):
            texts = [f"{one.when}{'' if one.active else ', inactive'}" for one in (there, schedule)]
            lines.append(f"{name}: schedule {slug}: the server has {texts[0]}; {FILE} has {texts[1]}; `make deploy`")
    return lines
