"""Prefect's automations for the deployments of a folder: runs that have died are Crashed, and failures are told.

Both live on the server, so they work though the worker, or the machine that it ran on, is gone.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from knowtune.common.errors import UserError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

SILENCE = 600  # seconds without a heartbeat, of which Prefect sends one every 180, after which a run has died
BAD = ("Failed", "Crashed", "TimedOut")
ENDED = ("Completed", "Cancelled", *BAD)
RUNS = {"prefect.resource.id": "prefect.flow-run.*"}
BODY = """\
{{ flow_run.name }} of {{ flow.name }}: {{ flow_run.state.name }}

{{ flow_run.state.message }}

{{ flow_run|ui_url }}
"""


def watch(client: SyncPrefectClient, project: str, block: UUID | None) -> None:
    """Make or renew the automations of a project.

    Args:
        client: of the server.
        project: the name of its flow.
        block: the notification block to tell of failures; what was set before stays when None.
    """
    _put(client, f"{project}: a run without a sign of life has crashed", *_died(project))
    if block:
        _put(client, f"{project}: tell of failures", *_failed(project, block))


def _died(project: str) -> tuple[Any, Any]:
    """Return trigger and action for a run whose heartbeats have stopped: one of a deployment, one by hand, a part."""
    from prefect.automations import ChangeFlowRunState, EventTrigger, Posture
    from prefect.client.schemas.objects import StateType

    trigger = EventTrigger(
        match=RUNS,
        match_related=[_of(project)],
        posture=Posture.Proactive,
        after={"prefect.flow-run.heartbeat"},
        expect={"prefect.flow-run.heartbeat", *(f"prefect.flow-run.{name}" for name in ENDED)},
        for_each={"prefect.resource.id"},
        threshold=1,
        within=timedelta(seconds=SILENCE),
    )
    message = f"no sign of life for {SILENCE} s; what is finished is kept, the next run goes on from there"
    return trigger, ChangeFlowRunState(state=StateType.CRASHED, message=message)


def _of(project: str) -> dict[str, str]:
    """Match events of a project's runs."""
    return {"prefect.resource.role": "flow", "prefect.resource.name": project}


def _failed(project: str, block: UUID) -> tuple[Any, Any]:
    """Return trigger and action for a deployment's run that went wrong; somebody watches those by hand."""
    from prefect.automations import EventTrigger, Posture, SendNotification

    trigger = EventTrigger(
        match=RUNS,
        match_related=[_of(project), {"prefect.resource.role": "deployment"}],
        posture=Posture.Reactive,
        expect={f"prefect.flow-run.{name}" for name in BAD},
        for_each={"prefect.resource.id"},
        threshold=1,
        within=timedelta(0),
    )
    return trigger, SendNotification(block_document_id=block, subject=f"knowtune: {project}", body=BODY)


def _put(client: SyncPrefectClient, name: str, trigger: Any, action: Any) -> None:
    """Make an automation, or renew the one of this name; whether it is enabled stays as somebody has set it."""
    from prefect.automations import AutomationCore

    known = client.read_automations_by_name(name)
    enabled = all(one.enabled for one in known)
    automation = AutomationCore(name=name, trigger=trigger, actions=[action], enabled=enabled)
    if known:
        client.update_automation(known[0].id, automation)
    else:
        client.create_automation(automation)


def block_id(client: SyncPrefectClient, block: str) -> UUID:
    """Return the id of a notification block, given as `TYPE/NAME`.

    Raises:
        UserError: there is none of this name.
    """
    from prefect.exceptions import ObjectNotFound

    kind, _, name = block.partition("/")
    try:
        return client.read_block_document_by_name(name, kind).id
    except (ObjectNotFound, ValueError):
        raise UserError(
            f"--notify: got {block}; allowed: a notification block of the server as TYPE/NAME. "
            "`prefect block ls` lists them; the page's Blocks make one"
        ) from None
