"""What `prefect.yaml` deploys: the pipeline by night, on demand, with whatever a person sets.

A worker opens the project's folder, imports this module and runs one of its flows. Each ends with one sentence that
says what came out, as its state's message. An error of the user's is such a sentence too, without a traceback.

One reproduction at a time works in a folder: the next one waits, whoever started the first. That is not left to
Prefect's concurrency limits, see docs/decisions/0050.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from cli.claim import claim_folder
from flows.audit import audit, refresh
from flows.on_demand import asked_workspace
from flows.pipeline import RETRY_AFTER, project_name
from flows.promote import promote
from flows.remote import bring, find_remote, send
from flows.run import Ended, default_workers, reproduce
from flows.states import interruption, worth_another_try
from flows.sweep import sweep as sweep_flow
from knowtune.common.errors import TransientError, UserError
from stages.core.champion import FOLDER as CHAMPION
from stages.core.champion import read_champion
from stages.core.params import PARAMS, load_params

PROJECT = project_name(Path.cwd())  # all deployments of a folder have one flow, apart from those of another folder


def deployed(name: str) -> Callable[[Callable[..., str]], Any]:
    """Make a flow of a function that returns what came out, in one sentence.

    Args:
        name: of its runs, with the time for which they were scheduled.
    """

    def decorate(work: Callable[..., str]) -> Any:
        @wraps(work)
        def run(*args: Any, **kwargs: Any) -> State[None]:
            try:
                return Completed(message=work(*args, **kwargs))
            except InterruptedRunError:
                return interruption()
            except UserError as error:
                return Failed(message=str(error))

        def run_name() -> str:
            return f"{name} {flow_run.scheduled_start_time:%Y-%m-%d %H:%M}"

        return flow(name=PROJECT, flow_run_name=run_name, persist_result=False, log_prints=True)(run)

    return decorate


@deployed("nightly")
def nightly(update: list[str] | None = None) -> str:
    """Bring the data, reproduce what changed, send the results, promote the winner.

    Args:
        update: `.dvc` files of imported data to bring up to date with their source first (`dvc update`).
    """
    folder = Path.cwd()
    with claim_folder(folder, wait=True):  # nobody comes between the verdict and the promotion
        text = _finished(_reproduce(folder, (), update=tuple(update or ()), remote=True))
        if refresh(folder, wait=True):  # the champion was measured on other examples: the gate judges again
            text = _finished(_reproduce(folder, (), remote=True, again=True))
        return f"{text}; {_good(crown(folder, return_state=True)).message}"


@deployed("audit")
def weekly(record: bool = False) -> str:
    """Measure the champion again.

    Args:
        record: let what is measured now be what the gate compares with.
    """
    folder = Path.cwd()
    rules = load_params(folder / PARAMS).promote
    if rules is None or read_champion(folder / CHAMPION, rules.model) is None:
        return "there is no champion yet; `nightly` makes one once the gate lets a model through"
    audited = audit(folder, record=record, wait=True)
    if audited.differ:
        raise UserError("\n".join([f"{audited.version}: not what was recorded of it:", *audited.differ]))
    return f"{audited.version}: {audited.equal} metrics and all files are as recorded"


sweep = sweep_flow.with_options(name=PROJECT, flow_run_name="sweep {grid}", log_prints=True)


@deployed("on demand")
def on_demand(params: dict[str, Any] | None = None, targets: list[str] | None = None, workspace: str = "") -> str:
    """Reproduce what somebody asks for; nothing is promoted.

    Args:
        params: values over those of the params file, e.g. {"runs.lora.options.rank": 32}. They go into a workspace,
            so the project's own params.yaml, data and dvc.lock stay as they are.
        targets: stages or families and what they need, e.g. ["train@lora"]; all when empty.
        workspace: a preset's or a workspace's name. With params: the name of the workspace to work in, which begins as
            the preset of this name, else as params.yaml.
    """
    folder = asked_workspace(params or {}, workspace)
    wanted = (folder / PARAMS).read_bytes()

    def unchanged() -> None:
        if (folder / PARAMS).read_bytes() != wanted:
            raise UserError(f"{folder}: while this run waited, another one gave the workspace other params; run again")

    return _finished(_reproduce(folder, targets or (), remote=folder == Path.cwd(), check=unchanged))


class InterruptedRunError(Exception):
    """A person or the system has ended the run."""


def _reproduce(
    folder: Path,
    targets: Sequence[str],
    *,
    remote: bool,
    again: bool = False,
    update: tuple[str, ...] = (),
    check: Callable[[], object] = lambda: None,
) -> Ended:
    """Reproduce a folder once it is free and a check has passed, with its remote around the run."""
    has_remote: list[bool] = []

    def before() -> None:
        check()
        if remote:
            state = pull(folder, update, again=again, return_state=True)
            has_remote.append(_good(state).name == PULLED)

    def after() -> None:
        if any(has_remote):
            _good(push(folder, return_state=True))

    workers = default_workers(folder)
    return reproduce(folder, targets, workers=workers, wait=True, brief=True, before=before, after=after)


def _finished(ended: Ended) -> str:
    """Return what a reproduction says of itself.

    Raises:
        UserError: it failed.
        InterruptedRunError: it was interrupted.
    """
    if ended.code == 0:
        return ended.message if ended.worked else f"nothing has changed; {ended.message}"
    if ended.code == 1:
        raise UserError(ended.message)
    raise InterruptedRunError


PULLED = "Pulled"


@task(
    name="pull",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=len(RETRY_AFTER),
    retry_delay_seconds=list(RETRY_AFTER),
    retry_condition_fn=worth_another_try,
)
def pull(folder: Path, update: tuple[str, ...], *, again: bool = False) -> State[None]:
    """Bring what DVC's remote has; a folder without one stays on its own, and is told so, but not again."""
    try:
        remote = find_remote(folder)
        if remote is None:
            if update:
                raise UserError(f"update: got {', '.join(update)}; allowed: nothing while DVC has no remote")
            if not again:
                hint = "data and results stay on this machine (`dvc remote add -d NAME URL`)"
                print(f"no DVC remote is configured: {hint}")
            return Completed()
        bring(folder, remote, print, update)
        return Completed(name=PULLED, message=f"remote {remote.name!r}")
    except TransientError as error:
        return Failed(name="Unreachable", message=str(error))
    except UserError as error:
        return Failed(message=str(error))


@task(name="push", cache_policy=NO_CACHE, persist_result=False)
def push(folder: Path) -> State[None]:
    """Send what has been made to DVC's remote."""
    try:
        send(folder, print)
    except UserError as error:
        return Failed(message=f"{error}\nThe results are kept here; `dvc push` sends them, and so does the next run.")
    return Completed()


@task(name="promote", cache_policy=NO_CACHE, persist_result=False)
def crown(folder: Path) -> State[None]:
    """Promote what the gate lets through, or say why nothing is promoted."""
    if load_params(folder / PARAMS).promote is None:
        return Completed(message="nothing is promoted: params.yaml has no section promote")
    try:
        promotion = promote(folder, wait=True)
    except UserError as error:
        return Failed(message=f"nothing was promoted: {error}")
    champion = f"the champion is version {promotion.version}" if promotion.version else "there is no champion"
    return Completed(message=f"{'promoted' if promotion.promoted else champion}: {promotion.reason}")


def _good(state: State[Any]) -> State[Any]:
    """Return the state of a task that went well.

    Raises:
        UserError: it did not.
    """
    if not state.is_completed():
        raise UserError(state.message or "")
    return state
