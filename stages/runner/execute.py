"""One run of a stage in this process: arguments, params, threads, network, tracking, and how errors are printed."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from stages.runner.costs import note_cost


def execute(module: str, argv: list[str]) -> int:
    """Parse arguments, check params.yaml, run the stage, note what it cost.

    Returns:
        0, or 1 after an error of the user's, printed without a traceback; 130 after Ctrl-C, wherever it arrives.
    """
    try:
        return _execute(module, argv)
    except KeyboardInterrupt:
        return report_interrupt(module.rpartition(".")[2])


def _execute(module: str, argv: list[str]) -> int:
    """Do what `execute` says, but for an interrupt."""
    from knowtune.common.errors import TransientError, UserError
    from knowtune.common.secrets import mask_output

    mask_output()
    stage = importlib.import_module(module)
    name = module.rpartition(".")[2]
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=stage.__doc__,
        epilog=f"example:\n  {stage.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    stage.arguments(parser)
    args = parser.parse_args(argv)
    # transformers warns of its own attribute, which PEFT asks for; nobody who reads a training log can act on it
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
    started = time.time()
    try:
        _run(stage, args)
    except TransientError as error:
        _report(name, error)
        return os.EX_TEMPFAIL  # whoever runs the stage may try again
    except UserError as error:
        _report(name, error)
        return 1
    except Exception as error:
        if not is_disk_full(error):
            raise
        print(f"{name}: the disk is full; what is finished is kept. Free some space and run it again", file=sys.stderr)
        return 1
    address = os.environ.get("DVC_STAGE", name)  # DVC tells its commands which stage they are
    note_cost(address.rpartition(":")[2], started, time.time())
    return 0


def _run(stage: Any, args: argparse.Namespace) -> None:
    """Run a stage on the project's params, with a note for tracking before and after."""
    from stages.core.lock import keep_lock
    from stages.core.params import PARAMS, load_params
    from stages.tracking.stage_notes import track

    params = load_params(PARAMS)
    keep_lock(Path())
    _set_threads(params.threads)
    if not getattr(stage, "NETWORK", False):
        _go_offline()
    with track(params):
        stage.run(args, params)


def _report(name: str, error: Exception) -> None:
    """Print an error with the name of its stage, once."""
    print(str(error) if str(error).startswith(f"{name}:") else f"{name}: {error}", file=sys.stderr)


def report_interrupt(name: str) -> int:
    """Say that Ctrl-C ended a stage, and return the exit code for it."""
    print(f"{name}: interrupted; what is finished is kept, run it again to go on", file=sys.stderr)
    return 130


def is_disk_full(error: BaseException) -> bool:
    """Recognise a full disk; safetensors and torch say it in words of their own, or in the error before the last."""
    full = (errno.ENOSPC, errno.EDQUOT)
    by_number = isinstance(error, OSError) and error.errno in full
    words = [*(f"os error {code}" for code in full), "No space left", "PytorchStreamWriter failed writing"]
    words += ["inline_container.cc", "iostream error"]  # torch.save: "unexpected pos 576 vs 534" when a file ends early
    before = error.__cause__ or error.__context__
    return by_number or any(word in str(error) for word in words) or (before is not None and is_disk_full(before))


def _go_offline() -> None:
    """Keep the hub's libraries from the network; one that a warm process has loaded has read its setting already."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    constants: Any = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        constants.HF_HUB_OFFLINE = True


def _set_threads(threads: int) -> None:
    """Fix the number of threads, for the last bits of a sum depend on it; light stages never load torch."""
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read when torch is loaded
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)
