"""Reproduce the pipeline with a warm process beside DVC, then show the leaderboard."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from stages.core.warm import warm_process

REPORT = Path("data/report")


def run(folder: Path, targets: list[str], *, cold: bool = False) -> int:
    """Run `dvc repro` in a folder and show the result.

    Args:
        folder: the project or a workspace.
        targets: stages; all of them when empty.
        cold: let every stage import its libraries itself.

    Returns:
        DVC's exit code.
    """
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with ExitStack() as stack:
        if not cold:
            environment |= stack.enter_context(warm_process(folder))
        code = subprocess.run([sys.executable, "-m", "dvc", "repro", *targets], cwd=folder, env=environment).returncode
    if code != 0:
        print("the pipeline stopped; finished stages and seeds are kept, the same command goes on", file=sys.stderr)
        return code
    if not targets:
        show(folder)
    return 0


def show(folder: Path) -> None:
    """Print the leaderboard of the last finished run and where its report lies.

    Raises:
        UserError: nothing has been run here yet.
    """
    from rich.console import Console
    from rich.table import Table

    from knowtune.errors import UserError

    path = folder / REPORT / "leaderboard.md"
    if not path.is_file():
        raise UserError(f"{path}: no leaderboard yet; `make run` makes it")
    lines = path.read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    table = Table(title="what each model learned, and what it forgot", title_justify="left")
    for i, name in enumerate(cells[0]):
        table.add_column(name.replace(" ", "\n"), justify="left" if i < 2 else "right", overflow="fold")
    for row in cells[2:]:
        table.add_row(*(cell.replace(" ± ", "\n± ") if i > 2 else cell for i, cell in enumerate(row)))
    console = Console()
    console.print(table)
    console.print("mean ± 95 % interval over seeds; report: ", end="")
    console.print(str(os.path.relpath(folder / REPORT / "index.html")), style="bold", highlight=False)
