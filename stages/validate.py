"""Check params.yaml, all faults in one message, and remove what belongs to members that are no longer named.

Every root stage depends on the constant this writes, so a plain `dvc repro` stops here too before anything is computed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from stages.core import command
from stages.core.params import Params, load_params

EXAMPLE = "python -m stages.validate --data data --out data/valid.json"

FOLDERS = {
    "filters": ["filtered"],
    "selections": ["selected"],
    "runs": ["adapters", "merged", "evaluated/runs"],
    "mixtures": ["mixed", "evaluated/mixtures"],
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--data", type=Path, required=True, help="folder of all outs, cleared of unnamed members")
    parser.add_argument("--out", type=Path, required=True, help="the constant to write")


def run(args: argparse.Namespace, params: Params) -> None:
    """Check PEFT's own options too, prune, write the constant."""
    from knowtune.artefacts import write_json

    load_params(command.PARAMS, deep=any(r.method == "peft" for r in params.runs.values()))
    prune(args.data, params)
    write_json(args.out, {"valid": True})


def prune(data: Path, params: Params) -> None:
    """Remove the folders of family members that params.yaml no longer names: the report must meet no ghosts."""
    for family, folders in FOLDERS.items():
        for folder in folders:
            for path in sorted((data / folder).glob("*")):
                if path.name not in getattr(params, family):
                    print(f"validate: removes {path}, which params.yaml no longer names", file=sys.stderr)
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


if __name__ == "__main__":
    sys.exit(command.main("stages.validate"))
