"""What is wrong with a deployment of `prefect.yaml`, as far as it can be known before anything is deployed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from inspect import formatannotation, signature
from typing import Any

from pydantic import ValidationError

from knowtune.common.errors import Problem, nearest

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
SCHEDULES = "a list of mappings, such as [{slug: every-night, cron: '0 2 * * *'}]"
EXAMPLES = {
    "cron": "minute, hour, day, month, weekday, such as '0 2 * * *'",
    "interval": "seconds between two runs, such as 604800",
    "rrule": "a rule of RFC 5545, such as 'FREQ=MONTHLY'",
    "timezone": "a name of the IANA list, such as 'Europe/Berlin'",
    "anchor_date": "a time to count from, such as '2026-01-05T04:00:00+00:00'",
    "day_or": "true or false",
}


def faults(section: Mapping[str, Any], i: int) -> Iterator[Problem]:
    """List what is wrong with one deployment."""
    where = f"deployments.{section.get('name', i)}"
    for key in section.keys() - KEYS:
        yield Problem(f"{where}.{key}", "a key that Prefect passes over", "no such key", nearest(key, KEYS))
    if not _is_name(section.get("name")):
        yield Problem(f"{where}.name", _got(section.get("name")), "a name")
    pool = section.get("work_pool")
    if not _is_name(name := pool.get("name") if isinstance(pool, dict) else None):
        yield Problem(f"{where}.work_pool.name", _got(name), "the name of a work pool")
    if not isinstance(section.get("paused"), bool | None):
        yield Problem(f"{where}.paused", repr(section["paused"]), "true or false")
    given = section.get("schedules")
    if not isinstance(given, list | None):
        yield Problem(f"{where}.schedules", repr(given), SCHEDULES)
    for j, one in enumerate(given if isinstance(given, list) else []):
        if not isinstance(one, dict):
            yield Problem(f"{where}.schedules.{j}", repr(one), SCHEDULES)
    yield from _faults_of_entry(section, where)
    slugs = [one.get("slug") for one in schedules_of(section)]
    for j, one in enumerate(schedules_of(section)):
        yield from _faults_of_schedule(one, f"{where}.schedules.{one.get('slug', j)}", slugs)


def _is_name(value: object) -> bool:
    """Say whether a value is a text that is not empty."""
    return isinstance(value, str) and bool(value)


def _got(value: object) -> str:
    """Say what stands in the place of a name."""
    return repr(value) if value else "nothing"


def _faults_of_entry(section: Mapping[str, Any], where: str) -> Iterator[Problem]:
    """List what is wrong with what a deployment runs, and with what it gives it."""
    from prefect.flows import load_flow_from_entrypoint

    entry = str(section.get("entrypoint"))
    try:
        flow: Any = load_flow_from_entrypoint(entry, use_placeholder_flow=False)
    except Exception as error:  # whatever an import may raise
        yield Problem(f"{where}.entrypoint", f"{entry!r} ({error})", "a flow, such as flows.deployments.nightly")
        return
    yield from _faults_of_parameters(section.get("parameters"), flow, f"{where}.parameters")
    for j, one in enumerate(schedules_of(section)):
        at = f"{where}.schedules.{one.get('slug', j)}.parameters"
        yield from _faults_of_parameters(one.get("parameters"), flow, at)


def _faults_of_parameters(given: Any, flow: Any, where: str) -> Iterator[Problem]:
    """List which parameters a flow does not have, and which have values that it does not take."""
    from prefect.utilities.schema_tools import validate  # as the server does, which is asked one by one

    if not isinstance(given, dict | None):
        yield Problem(where, repr(given), "a mapping of the flow's parameters")
        return
    given, known = given or {}, signature(flow.fn).parameters
    for name in given.keys() - known.keys():
        allowed = ", ".join(known) or "none"
        yield Problem(where, repr(name), f"the flow's parameters: {allowed}", nearest(name, known))
    plain = {name: value for name, value in given.items() if "{{" not in str(value)}  # Prefect fills these in
    wrong = validate(plain, flow.parameters.model_dump(), ignore_required=True)
    for name in {str(error.absolute_path[0]) for error in wrong}:
        annotation = known[name].annotation
        allowed = annotation if isinstance(annotation, str) else formatannotation(annotation)
        yield Problem(f"{where}.{name}", repr(given[name]), allowed)


def _faults_of_schedule(one: Mapping[str, Any], where: str, slugs: Sequence[Any]) -> Iterator[Problem]:
    """List what is wrong with one schedule."""
    if not _is_name(slug := one.get("slug")) or slugs.count(slug) > 1:
        got = f"{slug!r} twice" if _is_name(slug) else _got(slug)
        yield Problem(f"{where}.slug", got, "a name of its own; else a new time makes a second schedule")
    kinds = [kind for kind in KINDS if kind in one]
    if len(kinds) != 1:
        yield Problem(where, " and ".join(kinds) or "no time", "one of cron, interval, rrule")
        return
    known = {kinds[0], *KINDS[kinds[0]], *COMMON}
    for key in one.keys() - known:
        yield Problem(f"{where}.{key}", "a key that this kind does not have", ", ".join(sorted(known)))
    if "interval" in one and "anchor_date" not in one:
        yield Problem(f"{where}.anchor_date", "nothing", EXAMPLES["anchor_date"])
    if not isinstance(one.get("active", True), bool):
        yield Problem(f"{where}.active", repr(one["active"]), "true or false")
    if one.keys() <= known:
        try:
            built(one)
        except ValidationError as error:
            for fault in error.errors():
                key = str(*fault["loc"][:1]) or "timezone"  # which an interval looks at as a whole
                yield Problem(f"{where}.{key}", repr(one.get(key)), EXAMPLES[key])


def schedules_of(section: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a deployment's schedules, as far as they are such."""
    given = section.get("schedules")
    return [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []


def built(one: Mapping[str, Any]) -> Any:
    """Build Prefect's schedule of a section of the file.

    Raises:
        ValidationError: Prefect does not take it.
    """
    from prefect.client.schemas import schedules

    kinds: dict[str, Any] = {
        "cron": schedules.CronSchedule,
        "interval": schedules.IntervalSchedule,
        "rrule": schedules.RRuleSchedule,
    }
    kind = next(kind for kind in kinds if kind in one)
    return kinds[kind].model_validate({key: one[key] for key in (kind, *sorted(KINDS[kind])) if key in one})
