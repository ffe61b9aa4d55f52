"""`python -m cli COMMAND`: the commands behind the Makefile."""

from __future__ import annotations

import argparse
import os
import sys

from cli import ask as asking
from cli import compare as comparing
from cli import gate as gating
from cli import lineage as tracing
from cli import new
from cli.workspace import add_arguments, open_workspace, params_file
from knowtune.common.errors import UserError
from knowtune.common.secrets import mask_output


def main() -> int:
    """Parse the command line and hand over; errors of the user's are printed without a traceback."""
    parser = argparse.ArgumentParser(prog="python -m cli", description="Fine-tune on knowledge, reproducibly.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    add_arguments(shared)
    run = commands.add_parser("run", parents=[shared], help="run what has changed, then show the leaderboard")
    run.add_argument("targets", nargs="*", help="stages, e.g. evaluate-run@lora; all of them by default")
    run.add_argument("--cold", action="store_true", help="give each stage a fresh process: slower, the same bytes")
    run.add_argument("--wait", action="store_true", help="wait until another reproduction in this folder has ended")
    commands.add_parser("validate", parents=[shared], help="check the params file and list every fault")
    commands.add_parser("plan", parents=[shared], help="list what would run, with time and disk space")
    commands.add_parser("show", parents=[shared], help="show the leaderboard of the last run")
    ask = commands.add_parser("ask", parents=[shared], help="ask the base and a tuned model, and compare their answers")
    asking.add_arguments(ask)
    gate = commands.add_parser("gate", parents=[shared], help="show which model is to be shipped and why")
    gating.add_arguments(gate)
    compare = commands.add_parser("compare", parents=[shared], help="compare two models, example by example")
    comparing.add_arguments(compare)
    lineage = commands.add_parser(
        "lineage", parents=[shared], help="tell where a model comes from, or where a row went"
    )
    tracing.add_arguments(lineage)
    fresh = commands.add_parser("new", help="look at data and a model, and write a preset for them")
    new.add_arguments(fresh)
    args = parser.parse_args()
    mask_output()
    try:
        return _dispatch(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read this has enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted; what is finished is kept, the same command goes on from there", file=sys.stderr)
        return 130


def _dispatch(args: argparse.Namespace) -> int:
    """Import what the command needs, and only that."""
    from stages.runner.warm import QUIET

    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if args.command == "validate":
        from cli.checks import check_params

        check_params(params_file(args))
        print(f"{params_file(args)}: good")
        return 0
    if args.command == "new":
        new.run(args)
        return 0
    from cli.claim import holder
    from stages.core.lock import mend_lock

    question = asking.read_question(args.question, args.file, raw=args.raw) if args.command == "ask" else ""
    folder = open_workspace(params_file(args), args.data, wait=getattr(args, "wait", False))
    if args.command == "run":
        from cli.run import run

        return run(folder, args.targets, cold=args.cold, wait=args.wait)
    if not holder(folder):  # else DVC may be writing it
        mend_lock(folder)
    if args.command == "plan":
        from cli.plan import plan

        return plan(folder)
    if args.command == "show":
        from cli.run import show

        show(folder)
        return 0
    if args.command == "lineage":
        return tracing.lineage(folder, args.row, args.model, quick=args.quick, as_json=args.json)
    if args.command == "gate":
        return gating.show_verdict(folder, as_json=args.json)
    if args.command == "compare":
        return comparing.compare_models(folder, args.a, args.b, args.set, args.limit, as_json=args.json)
    if args.model:
        return asking.ask_registered(folder, args.model, question, raw=args.raw, show=args.show)
    return asking.ask(folder, args.run, question, args.seed, raw=args.raw, show=args.show)


if __name__ == "__main__":
    sys.exit(main())
