"""`python -m flows.deploy`: deploy all of prefect.yaml, say when each runs next, and compare the server with the file.

Prefect's own command does the deploying (`prefect deploy --all`). Before it, the file is checked whole; after it, the
server's schedules are compared with it. A server keeps what was taken out of the file, and goes on running it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.automations import block_id, watch
from flows.schedules import FILE, POOL, Deployment, Schedule, described, differences, read_deployments
from flows.server import find_server
from knowtune.common.errors import UserError
from knowtune.common.secrets import mask, mask_output

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

POOLS = Path("flows/pools")  # job templates of other pools
NO_SERVER = "no Prefect server answers; `make serve` in another terminal starts one, or set PREFECT_API_URL"


def main() -> int:
    """Deploy, or compare only; errors of the user's are printed without a traceback."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.deploy",
        description=__doc__,
        epilog="example:\n  make serve                     # in another terminal\n  python -m flows.deploy --check",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="deploy nothing; 1 where server and file differ")
    parser.add_argument("--file", type=Path, default=FILE, help="the file to deploy")
    parser.add_argument(
        "--notify", metavar="TYPE/NAME", help="the notification block to tell of a failure, e.g. slack-webhook/team"
    )
    args = parser.parse_args()
    mask_output()
    try:
        return _check(args.file) if args.check else _deploy(args.file, args.notify)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _deploy(file: Path, notify: str | None) -> int:
    """Deploy a file's deployments."""
    wanted = read_deployments(file)
    with _client() as client:
        block = block_id(client, notify) if notify else None
        _pools(client, {deployment.pool for deployment in wanted.values()})
        words = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
        environment = {**os.environ, "PREFECT_API_URL": str(client.api_url)}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise UserError(f"prefect deploy failed:\n{mask(done.stdout + done.stderr)}")
        watch(client, _project(), block)
        _saywhen(client, wanted)
        lines = differing(client, wanted)
        print(*lines, sep="\n", end="\n" if lines else "")
    return 0


def _check(file: Path) -> int:
    """Compare a server with a file."""
    wanted = read_deployments(file)
    with _client() as client:
        lines = differing(client, wanted)
    print(*(lines or [f"the server's schedules are those of {file}"]), sep="\n")
    return 1 if lines else 0


@contextmanager
def _client() -> Iterator[SyncPrefectClient]:
    """Open the server that answers, with the credentials that Prefect's settings have for it.

    Raises:
        UserError: none does.
    """
    url = find_server(Path.cwd())
    if url is None:
        raise UserError(NO_SERVER)
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
        yield client


def _project() -> str:
    """Return the name of this folder's flow."""
    from flows.pipeline import project_name

    return project_name(Path.cwd())


def _pools(client: SyncPrefectClient, names: set[str]) -> None:
    """Make the pool of processes where it is missing.

    Raises:
        UserError: another pool is missing: only a person knows where its jobs run.
    """
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound

    for name in names:
        try:
            client.read_work_pool(name)
        except ObjectNotFound:
            if name != POOL:
                raise UserError(
                    f"work pool {name!r}: the server does not have it; make it first, e.g. prefect work-pool create "
                    f"{name} --type docker --base-job-template {POOLS}/docker.json"
                ) from None
            client.create_work_pool(WorkPoolCreate(name=name, type="process"))


def _saywhen(client: SyncPrefectClient, wanted: dict[str, Deployment]) -> None:
    """Let the server plan the next run of each deployment now, and print when it is."""
    print(f"deployed to {mask(str(client.api_url))}, as {_project()}/NAME:")
    pools = {deployment.pool for deployment in wanted.values()}
    for name, deployment in wanted.items():
        there = client.read_deployment_by_name(f"{_project()}/{name}")
        client.request("POST", "/deployments/{id}/schedule", path_params={"id": there.id}, json={"max_runs": 1})
        runs = client.get_scheduled_flow_runs_for_deployments([there.id], limit=1)
        print(f"  {name:12} {when(name, deployment, [run.next_scheduled_start_time for run in runs])}")
    for pool in sorted(pools):
        workers = client.read_workers_for_work_pool(pool)
        if not any(worker.status == "ONLINE" for worker in workers):
            start = f"`make serve`, or `prefect worker start --pool {pool}`"
            print(f"no worker looks after pool {pool!r}, so nothing will run: {start}")


def when(name: str, deployment: Deployment, starts: list[Any]) -> str:
    """Say when a deployment runs next.

    Args:
        name: of the deployment.
        deployment: as the file has it.
        starts: the times of its scheduled runs, the first one first.
    """
    if deployment.paused:
        return "paused, as the file has it; `paused: false` there lets it run"
    rules = "; ".join(schedule.when for schedule in deployment.schedules.values() if schedule.active)
    if rules and starts:
        return f"next {starts[0].astimezone():%Y-%m-%d %H:%M %Z} ({rules})"
    if rules:
        return f"no run is planned, though its schedule is active ({rules}): is the server's scheduler at work?"
    if deployment.schedules:
        return "its schedule is inactive; set `active: true` in the file once its parameters are yours"
    return f"when asked: prefect deployment run '{_project()}/{name}'"


def differing(client: SyncPrefectClient, wanted: dict[str, Deployment]) -> list[str]:
    """Ask a server for this folder's deployments, and say in which way they are not those of the file."""
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName

    project = _project()
    found = client.read_deployments(flow_filter=FlowFilter(name=FlowFilterName(any_=[project])))
    present = {
        one.name: Deployment(
            {
                str(schedule.slug or schedule.id): Schedule(
                    described(schedule.schedule), bool(schedule.active), str(schedule.id)
                )
                for schedule in one.schedules
            },
            str(one.work_pool_name),
            bool(one.paused),
        )
        for one in found
    }
    return differences(project, wanted, present)


if __name__ == "__main__":
    sys.exit(main())
