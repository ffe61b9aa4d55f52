"""`prefect.yaml` read and checked before anything is deployed, and compared with what a server holds.

Prefect passes over a key that it does not know, deploys one deployment after another until one is wrong, and keeps
schedules that were taken out of the file. All three would be noticed weeks later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

from flows.faults import built, faults, schedules_of
from knowtune.common.errors import Problem, UserError, raise_gathered
from stages.core.params import read_yaml

FILE = Path("prefect.yaml")
POOL = "knowtune"  # of processes on the machine of its worker; `make serve` starts one


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
    problems = [problem for i, section in enumerate(sections) for problem in faults(section, i)]
    names = [str(section.get("name")) for section in sections]
    problems += [
        Problem("deployments", f"{name!r} twice", "names of their own") for name in set(names) if names.count(name) > 1
    ]
    raise_gathered(str(path), problems)
    return {
        name: Deployment(
            {one["slug"]: Schedule(described(built(one)), one.get("active", True)) for one in schedules_of(section)},
            section["work_pool"]["name"],
            section.get("paused") or False,
        )
        for name, section in zip(names, sections, strict=True)
    }


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
        if deployment.paused and not present[name].paused:
            lines.append(f"{name}: the server runs it; {FILE} pauses it; `make deploy`")
        if present[name].paused and not deployment.paused:
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
