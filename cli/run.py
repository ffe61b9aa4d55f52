"""Reproduce the pipeline with a warm process beside DVC, then show the leaderboard."""

from __future__ import annotations

import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

import psutil

from cli.claim import claim_folder, dvc_at_work
from cli.objects import sound_objects
from stages.core.code import refresh_code
from stages.core.lock import keep_lock, mend_lock
from stages.core.params import load_params, read_yaml
from stages.core.pipeline import project_out
from stages.runner.warm import SOCKET, warm_process
from stages.tracking import drain, open_point, reproduction_environment, why_untracked
from stages.validate import prune

INTERRUPTED = 130
GRACE = 10.0  # seconds that an interrupted stage has to end
CAUTION = "Caution: "  # begins a line of the leaderboard that says what makes its numbers say less


def run(folder: Path, targets: list[str], *, cold: bool = False, wait: bool = False) -> int:
    """Run `dvc repro` in a folder and show the result.

    Args:
        folder: the project or a workspace.
        targets: stages; all of them when empty.
        cold: let every stage import its libraries itself.
        wait: until another reproduction in this folder has ended.

    Returns:
        DVC's exit code, 130 after Ctrl-C.

    Raises:
        UserError: another reproduction is at work here.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", *targets]
    with surroundings(folder, cold=cold, wait=wait) as environment:
        code = _finish(subprocess.Popen(command, cwd=folder, env=environment))
        if code not in (0, INTERRUPTED) and (who := dvc_at_work(folder)):
            print(f"{who} works here too; wait for it to end", file=sys.stderr)
    drain(folder, code=code)
    if code != 0:
        print("the pipeline stopped; finished stages and seeds are kept, the same command goes on", file=sys.stderr)
        return code
    if not targets:
        show(folder)
    return 0


def _finish(dvc: subprocess.Popen[bytes]) -> int:
    """Wait for DVC; Ctrl-C is the stage's and DVC's business, which end soon, or are killed."""
    try:
        return dvc.wait()
    except KeyboardInterrupt:
        with suppress(KeyboardInterrupt, subprocess.TimeoutExpired):
            dvc.wait(GRACE)
    if dvc.poll() is None:
        for process in _below(dvc.pid):
            with suppress(psutil.Error):
                process.kill()
        dvc.kill()
    dvc.wait()
    return INTERRUPTED


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Take SIGTERM as Ctrl-C at a terminal, which reaches whatever this process has started, too."""
    for process in _below(os.getpid()):
        with suppress(psutil.Error):
            process.send_signal(signal.SIGINT)
    raise KeyboardInterrupt


def _below(process: int) -> list[psutil.Process]:
    """List what a process has started."""
    with suppress(psutil.Error):
        return psutil.Process(process).children(recursive=True)
    return []


@contextmanager
def surroundings(folder: Path, *, cold: bool = False, wait: bool = False) -> Iterator[dict[str, str]]:
    """Make a folder ready for DVC, and keep the warm process for the length of a block.

    Args:
        folder: the project or a workspace.
        cold: let every stage import its libraries itself.
        wait: until another reproduction in this folder has ended.

    Yields:
        The environment for DVC and its stages.

    Raises:
        UserError: another reproduction is at work here.
    """
    with claim_folder(folder, wait=wait), _prepare(folder, cold) as environment:
        yield environment


@contextmanager
def _prepare(folder: Path, cold: bool) -> Iterator[dict[str, str]]:
    """Make a folder ready that nobody else is at work in."""
    params = load_params(folder / "params.yaml")
    mend_lock(folder)
    keep_lock(folder)
    # The validate stage prunes too, but DVC does not run it after a checkout of an earlier params.yaml and dvc.lock.
    prune(folder / "dvc.yaml", folder / "dvc.lock", params)
    refresh_code(folder, params)
    print(
        f"{params.threads} threads on {platform.machine()}: equal bytes on this kind of CPU with as many threads; "
        "other CPUs and GPUs give equal metrics within the intervals shown"
    )
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    if params.tracking.store != "none":
        environment |= reproduction_environment()
        if why := why_untracked():
            print(f"tracking: {why}; nothing is recorded", file=sys.stderr)
        else:
            open_point(params.tracking.experiment, read_yaml(folder / "params.yaml"), folder)
    with ExitStack() as stack:
        stack.enter_context(sound_objects(folder))
        if cold:
            environment.pop(SOCKET, None)
        else:
            environment |= stack.enter_context(warm_process(folder))
        yield environment


def report_folder() -> Path:
    """Return where the report lies, below the project or a workspace."""
    return Path(project_out("report")).parent


def show(folder: Path) -> None:
    """Print the leaderboard of the last finished run, what the gate says of it, and where its report lies.

    Raises:
        UserError: nothing has been run here yet.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from knowtune.common.errors import UserError
    from stages.promotion.verdict import answer

    report = folder / report_folder()
    path = report / "leaderboard.md"
    if not path.is_file():
        raise UserError(f"{path}: no leaderboard yet; `make run` makes it")
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("|")]
    cells = [[cell.strip().replace("\\|", "|") for cell in row] for row in rows]
    console = Console()
    shown = columns_that_fit([cells[0], *cells[2:]], console.width)
    table = Table(title="what each model learned, and what it forgot", title_justify="left")
    for i in shown:
        table.add_column(cells[0][i], justify="left" if i < 2 else "right", no_wrap=True)
    for row in cells[2:]:
        table.add_row(*(escape(row[i]) for i in shown))
    console.print(table)
    rest = len(cells[0]) - len(shown)
    print("mean ± 95 % interval over seeds" + (f"; {rest} more columns in the report" if rest else ""))
    for caution in (line for line in lines if line.startswith(CAUTION)):
        print(caution)
    if (verdict := answer(folder)) is not None:
        print(verdict)
    print(f"report: {os.path.relpath(report / 'index.html')}")


def columns_that_fit(rows: list[list[str]], width: int) -> list[int]:
    """Choose the columns that fit a width: name first, then the metrics, then what describes the model.

    Args:
        rows: head and body of the leaderboard: name, what, trained, metrics..., parity.
        width: of the terminal, in characters.

    Returns:
        Column numbers in their order.
    """
    last = len(rows[0]) - 1
    shown: list[int] = []
    used = 1
    for column in (0, *range(3, last), 1, 2, last):
        needs = 3 + max(len(row[column]) for row in rows)
        if used + needs <= width:
            shown, used = [*shown, column], used + needs
    return sorted(shown)
