"""Check params.yaml, write which code each stage runs, and remove what belongs to members that are no longer named.

All faults come in one message. Every stage depends on its file of code, so a plain `dvc repro` stops here too before
anything is computed, and goes on with what an edit of params.yaml or of the code concerns.

What a removed member leaves behind (its folders, its entries in dvc.lock) would otherwise stay: the report must meet no
ghosts, and a fresh clone must end with the same dvc.lock.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from operator import attrgetter
from pathlib import Path

from stages.core.params import PARAMS, load_params, read_yaml
from stages.core.schema import Params
from stages.runner import command

EXAMPLE = "python -m stages.validate --pipeline dvc.yaml --lock dvc.lock --out data/code"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--pipeline", type=Path, required=True, help="dvc.yaml, which says where members' outs lie")
    parser.add_argument("--lock", type=Path, required=True, help="dvc.lock, cleared of unnamed members")
    parser.add_argument("--out", type=Path, required=True, help="folder for one file per stage and member: its code")


def run(args: argparse.Namespace, params: Params) -> None:
    """Check PEFT's own options too, prune, write which code each stage runs."""
    from stages.core.champion import FOLDER, ensure_champion
    from stages.core.code import write_code

    load_params(PARAMS, deep=any(r.method == "peft" for r in params.runs.values()))
    prune(args.pipeline, args.lock, params)
    ensure_champion(args.pipeline.parent / FOLDER)
    write_code(args.pipeline.parent, args.out, params)


def prune(pipeline: Path, lock: Path, params: Params) -> None:
    """Remove the outs and lock entries of every member that params.yaml does not name."""
    for stage, family, folders in families(pipeline):
        named = set(attrgetter(family)(params))
        for folder in folders:
            prune_folder(pipeline.parent / folder, named)
        prune_lock(lock, stage, named)


def families(pipeline: Path) -> list[tuple[str, str, list[Path]]]:
    """List dvc.yaml's `foreach` stages: name, the params section they expand over, the folders of their outs."""
    members = []
    for name, stage in read_yaml(pipeline)["stages"].items():
        if "foreach" in stage:
            outs = [out for out in stage["do"]["outs"] if out.endswith("/${key}")]
            members.append((name, stage["foreach"].strip("${}"), [Path(out).parent for out in outs]))
    return members


def prune_folder(folder: Path, named: set[str]) -> None:
    """Remove the outs of members that are not named."""
    for path in sorted(folder.glob("*")):
        if path.name not in named:
            print(f"validate: removes {path}, which params.yaml no longer names", file=sys.stderr)
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def prune_lock(lock: Path, stage: str, named: set[str]) -> None:
    """Remove a `foreach` stage's entries of members that are not named, and leave every other byte alone.

    DVC reads the file anew before each write, so its own later entries meet the pruned one.
    """
    if not lock.is_file():
        return
    text = lock.read_text(encoding="utf-8")

    def keep(entry: re.Match[str]) -> str:
        return entry[0] if entry["member"] in named else ""

    pruned = re.sub(rf"^  {re.escape(stage)}@(?P<member>[^\n]+):\n(?:    .*\n?)*", keep, text, flags=re.MULTILINE)
    if pruned != text:
        from knowtune.common.files import whole

        with whole(lock) as part:
            part.write_text(pruned, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(command.main("stages.validate"))
