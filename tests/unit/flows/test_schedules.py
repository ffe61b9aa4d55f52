"""prefect.yaml, checked whole before anything is deployed, and compared with what a server holds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from flows.deploy import when
from flows.schedules import Deployment, Schedule, described, differences, read_deployments
from knowtune.common.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
BAD = """\
deployments:
- name: nightly
  entrypoint: flows.deployments.nightly
  parameters: {updat: []}
  schedulles: []
  work_pool: {name: knowtune}
  schedules:
  - {slug: a, cron: "99 * * *", timezone: UTC}
  - {slug: a, interval: 3, timezone: Berlin}
  - {cron: "0 2 * * *", activ: true}
  - {slug: b, cron: "0 2 * * *", interval: 3}
  - {slug: c, active: "soon", rrule: FREQ=SOMETIMES}
- name: nightly
  entrypoint: flows.deployments.nope
- {name: daily, entrypoint: flows.deployments.weekly, work_pool: {name: [p]}, paused: often, schedules: daily}
- name: odd
  entrypoint: flows.deployments.sweep
  work_pool: knowtune
  parameters: {grid: "{{ $GRID }}", workers: two}
  schedules:
  - "0 99 * * *"
  - {slug: [a], cron: "0 2 * * *", parameters: {grid: 5}}
  - {slug: d, interval: 3, anchor_date: soon, parameters: [grid]}
- {name: bare, entrypoint: flows.deployments.weekly, work_pool: {name: p}, schedules: {slug: e, cron: "0 99 * * *"}}
"""


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_the_file_as_it_is_shipped_is_right_and_says_when_each_runs() -> None:
    found = read_deployments()
    assert list(found) == ["nightly", "on-demand", "sweep", "audit"]
    assert found["nightly"].schedules == {"every-night": Schedule("cron '0 2 * * *', UTC", True)}
    week = "every 7 days, 0:00:00, counted from 2026-01-04 12:00:00 UTC, UTC"
    assert found["audit"].schedules == {"every-week": Schedule(week, True)}
    assert not found["sweep"].schedules["every-month"].active
    assert found["on-demand"] == Deployment({}, "knowtune")


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "prefect.yaml"
    path.write_text(BAD)
    with pytest.raises(UserError) as caught:
        read_deployments(path)
    text = str(caught.value)
    for line in (
        "schedulles: got a key that Prefect passes over; allowed: no such key; did you mean 'schedules'?",
        "nightly.parameters: got 'updat'; allowed: the flow's parameters: update; did you mean 'update'?",
        "schedules.a.cron: got '99 * * *'; allowed: minute, hour, day, month, weekday, such as '0 2 * * *'",
        "schedules.a.timezone: got 'Berlin'; allowed: a name of the IANA list, such as 'Europe/Berlin'",
        "schedules.a.anchor_date: got nothing; allowed: a time to count from",
        "schedules.a.slug: got 'a' twice; allowed: a name of its own",
        "schedules.2.slug: got nothing; allowed: a name of its own",
        "schedules.2.activ: got a key that this kind does not have; allowed: active, cron, ",
        "schedules.b: got cron and interval; allowed: one of cron, interval, rrule",
        "schedules.c.active: got 'soon'; allowed: true or false",
        "schedules.c.rrule: got 'FREQ=SOMETIMES'; allowed: a rule of RFC 5545",
        "entrypoint: got 'flows.deployments.nope' (",
        "nightly.work_pool.name: got nothing; allowed: the name of a work pool",
        "deployments: got 'nightly' twice; allowed: names of their own",
        "daily.schedules: got 'daily'; allowed: a list of mappings, such as [{slug: every-night, cron: '0 2 * * *'}]",
        "daily.work_pool.name: got ['p']; allowed: the name of a work pool",
        "daily.paused: got 'often'; allowed: true or false",
        "odd.schedules.0: got '0 99 * * *'; allowed: a list of mappings",
        "odd.work_pool.name: got nothing; allowed: the name of a work pool",
        "odd.parameters.workers: got 'two'; allowed: int | None",
        "odd.schedules.['a'].slug: got ['a']; allowed: a name of its own",
        "odd.schedules.['a'].parameters.grid: got 5; allowed: str",
        "odd.schedules.d.anchor_date: got 'soon'; allowed: a time to count from",
        "odd.schedules.d.parameters: got ['grid']; allowed: a mapping of the flow's parameters",
        "bare.schedules: got {'slug': 'e', 'cron': '0 99 * * *'}; allowed: a list of mappings",
    ):
        assert line in text
    assert text.splitlines()[0].endswith(": 26 problems")


def test_a_rule_is_told_as_the_file_has_it_though_the_server_adds_a_start() -> None:
    rule = "FREQ=MONTHLY;BYMONTHDAY=1"
    sent, kept = (SimpleNamespace(rrule=text, timezone="UTC") for text in (rule, f"DTSTART:20200101T000000\n{rule}"))
    assert described(sent) == described(kept) == f"{rule}, UTC"


def test_ghosts_and_other_differences_are_named_with_what_to_do() -> None:
    night, day = Schedule("cron '0 2 * * *', UTC", True), Schedule("cron '0 9 * * *', UTC", True, "id-1")
    wanted = {
        "a": Deployment({"x": night, "y": night}, "p"),
        "b": Deployment({}, "p"),
        "c": Deployment({"x": night}, "p"),
    }
    present = {
        "a": Deployment({"x": day, "old": day}, "p", paused=True),
        "c": Deployment({"x": Schedule(night.when, False, "id-2")}, "p"),
        "gone": Deployment({"x": day}, "p"),
    }
    assert differences("me", wanted, present) == [
        "a: paused on the server; `prefect deployment resume 'me/a'`",
        "a: schedule old: a ghost (cron '0 9 * * *', UTC): the server runs it, prefect.yaml does not have it; "
        "remove it: prefect deployment schedule delete 'me/a' id-1",
        "a: schedule x: the server has cron '0 9 * * *', UTC; prefect.yaml has cron '0 2 * * *', UTC; `make deploy`",
        "a: schedule y: the server does not have it; `make deploy`",
        "b: the server does not have it; `make deploy`",
        "c: schedule x: the server has cron '0 2 * * *', UTC, inactive; prefect.yaml has cron '0 2 * * *', UTC; "
        "`make deploy`",
        "gone: a ghost: the server runs it, prefect.yaml does not have it; remove it: "
        "prefect deployment delete 'me/gone'",
    ]
    assert differences("me", wanted, wanted) == []


def test_what_the_file_pauses_is_paused_by_no_accident() -> None:
    running, paused = (
        Deployment({"x": Schedule("cron", True)}, "p"),
        Deployment({"x": Schedule("cron", True)}, "p", True),
    )
    assert differences("me", {"a": paused}, {"a": paused}) == []
    assert differences("me", {"a": paused}, {"a": running}) == [
        "a: the server runs it; prefect.yaml pauses it; `make deploy`"
    ]
    assert when("a", paused, []).startswith("paused, as the file has it")


def test_a_pause_is_read_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "prefect.yaml"
    one = "{name: a, entrypoint: flows.deployments.nightly, work_pool: {name: p}, paused: true, schedules: }"
    path.write_text(f"deployments:\n- {one}\n")
    assert read_deployments(path) == {"a": Deployment({}, "p", paused=True)}


def test_an_active_schedule_without_a_planned_run_is_no_good_news() -> None:
    active = Deployment({"x": Schedule("cron", True)}, "p")
    assert when("a", active, []).startswith("no run is planned, though its schedule is active (cron)")
    assert "set `active: true`" in when("a", Deployment({"x": Schedule("cron", False)}, "p"), [])
    assert when("a", Deployment({}, "p"), []).startswith("when asked: prefect deployment run '")
