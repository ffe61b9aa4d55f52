"""Gather what a run keeps of its base, once for all its seeds: the tables that its `preserve` reads, and a card.

With `distill.cache: top_k` also what the base would say of them, with `anchor.form: ewc` its Fisher information; a
killed pass goes on where it was.

A run without `preserve` gets a card alone, so that nothing of it runs again when there is something new to keep.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stages.runner import command

if TYPE_CHECKING:
    from stages.core.schema import Params

EXAMPLE = "python -m stages.preserve --name kept --train data/prepared/train.jsonl --texts data/prepared/replay_texts.jsonl \\\n    --rehearsed data/rehearsed --base data/base --out data/preserved/kept"  # noqa: E501


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--name", required=True, help="a name under `runs` in params.yaml")
    parser.add_argument("--train", type=Path, required=True, help="training rows, whose prompts may be read")
    parser.add_argument("--texts", type=Path, required=True, help="general texts that may be replayed")
    parser.add_argument("--rehearsed", type=Path, required=True, help="the rehearse stage's folder")
    parser.add_argument("--base", type=Path, required=True, help="the base stage's folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables and the card")


def run(args: argparse.Namespace, params: Params) -> None:
    """Write the tables of the run's sources, and what the base makes of them where training reads that."""
    from knowtune.common.errors import unknown
    from knowtune.common.files import replace_folder
    from knowtune.preserve.fisher_file import write_fisher
    from knowtune.preserve.sources import make_material, read_sources, write_material
    from knowtune.preserve.teacher_cache import FOLDER, write_teacher
    from stages.core.code import code_of
    from stages.core.compute import compute_of, require_one_process
    from stages.core.models import open_base
    from stages.core.work import work_folder

    require_one_process("preserve")
    if args.name not in params.runs:
        raise unknown("run", args.name, params.runs)
    section = params.runs[args.name]
    preserve, label = section.preserve, f"preserve {args.name}"
    if preserve is None:
        write_material(args.out, {}, 0)
        print(f"{label}: keeps nothing")
        return
    tables = read_sources(preserve.sources, args.rehearsed, args.texts, args.train)
    base = open_base(params, args.base)
    material = make_material(base, tables, preserve.max_text_tokens)
    write_material(args.out, tables, preserve.max_text_tokens)
    decides = [preserve.computed, compute_of(params).__dict__, params.task.model_dump()]
    read = {"prompts": args.train, "text": args.texts, "known": args.rehearsed, "self": args.rehearsed}
    inputs = [args.base, *sorted({read[source] for source in preserve.sources})]
    work = work_folder(f"preserve-{args.name}", decides, inputs, code_of("stages.preserve", section, params))
    anchor = preserve.anchor
    if anchor is not None and preserve.reads_fisher:
        write_fisher(base, material, anchor, args.out, label=label, work=work / "fisher")
    if preserve.reads_cache:
        write_teacher(base, material, preserve, work / FOLDER)
        replace_folder(work / FOLDER, args.out / FOLDER)
    counts = ", ".join(f"{len(ids)} of {source}" for source, ids in material.ids.items())
    print(f"{label}: {counts or 'no sequence is read'}")


if __name__ == "__main__":
    sys.exit(command.main("stages.preserve"))
