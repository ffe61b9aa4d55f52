"""`python -m flows`: reproduce the pipeline as a Prefect flow, independent stages side by side."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from cli.workspace import add_arguments, open_workspace, params_file
from knowtune.common.errors import UserError
from knowtune.common.secrets import mask_output

EXAMPLE = "python -m flows --workers 2"


def main() -> int:
    """Parse the command line and run; errors of the user's are printed without a traceback."""
    parser = argparse.ArgumentParser(
        prog="python -m flows",
        description=__doc__,
        epilog=f"example:\n  {EXAMPLE}\n\n`dvc stage list` names the stages. `make serve` gives a page to watch.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    parser.add_argument(
        "targets", nargs="*", metavar="STAGE", help="stages or families, and what they need; default: all"
    )
    parser.add_argument(
        "--workers", type=_workers, metavar="N", help="stages at a time; default: 2 where CPU and memory have room"
    )
    parser.add_argument("--wait", action="store_true", help="wait until another reproduction in this folder has ended")
    parser.add_argument("--force", action="store_true", help="run stages though nothing has changed")
    parser.add_argument("--dry", action="store_true", help="say what would run, and run nothing")
    args = parser.parse_args()
    mask_output()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _dispatch(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what is finished is kept, the same command goes on from there", file=sys.stderr)
        return 130


def _workers(text: str) -> int:
    """Read a number of workers."""
    most = os.cpu_count() or 1
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"got {text}; allowed: 1 to {most}, the number of CPU cores")
    return int(text)


def _dispatch(args: argparse.Namespace) -> int:
    """Open the place to work in, and import what the rest needs."""
    from stages.runner.warm import QUIET

    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from cli.claim import holder
    from stages.core.code import refresh_code
    from stages.core.lock import mend_lock
    from stages.core.params import load_params

    folder = open_workspace(params_file(args), args.data, wait=args.wait)
    if args.dry and not holder(folder):  # else DVC may be writing it
        mend_lock(folder)
        refresh_code(folder, load_params(folder / "params.yaml"))
    from flows.run import default_workers, run

    if args.dry:
        return _dry(folder, args.targets, args.force)
    workers = args.workers or default_workers(folder)
    return run(folder, args.targets, workers=workers, force=args.force, wait=args.wait)


def _dry(folder: Path, targets: list[str], force: bool) -> int:
    """Print what would run, in DVC's order."""
    from flows.graph import read_graph
    from flows.run import would_run

    reasons = [(address, reason) for address, reason in would_run(read_graph(folder, targets), force=force) if reason]
    for address, reason in reasons:
        print(f"{address:32} {reason}")
    if not reasons:
        print("nothing would run: data and pipeline are up to date")
    elif any(reason.startswith("depends") for _, reason in reasons):
        print("What depends on others runs only when those write something new.")
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Take SIGTERM as Ctrl-C."""
    raise KeyboardInterrupt


def _leave(code: int) -> None:
    """End; at once where a server has died, which Prefect's threads would try to reach for minutes more."""
    server = sys.modules.get("flows.server")
    if server is not None and server.LOST.is_set():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    _leave(main())
