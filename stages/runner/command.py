"""The command line of a stage: `python -m stages.NAME`, alone or by the warm process, with the same result.

A stage module has a docstring (shown by --help), `EXAMPLE`, `arguments(parser)` and `run(args, params)`. It imports
what is heavy inside `run`, so that --help and an early error cost nothing.
"""

from __future__ import annotations

import os
import sys

from stages.runner import warm
from stages.runner.execute import execute, report_interrupt


def main(module: str) -> int:
    """Run a stage from the command line, in the warm process where there is one."""
    try:
        code = _forward(module, sys.argv[1:])
    except KeyboardInterrupt:
        return report_interrupt(module.rpartition(".")[2])
    if code is not None:
        return code
    for name, value in warm.QUIET.items():
        os.environ.setdefault(name, value)
    return execute(module, sys.argv[1:])


def _forward(module: str, argv: list[str]) -> int | None:
    """Join the reproduction that is going on, and let the warm process run the stage; None where it runs here."""
    from stages.tracking.reproduction import join

    if {"-h", "--help"} & set(argv):
        return None
    join()
    return warm.forward(module, argv)
