"""Choose training rows and parameters among what a filter kept, once per seed of the selection."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.runner import command

if TYPE_CHECKING:
    from knowtune.checkpoints.base import Base
    from knowtune.preserve.sources import Material
    from knowtune.selectors.base import Selector
    from knowtune.selectors.run import Search, Warmup
    from stages.core.schema import Params, SelectionParams

EXAMPLE = "python -m stages.select --name ird --kept data/filtered/clean/kept.jsonl \\\n    --validation data/prepared/validation.jsonl --texts data/prepared/replay_texts.jsonl \\\n    --rehearsed data/rehearsed --base data/base --out data/selected/ird"  # noqa: E501


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--name", required=True, help="a name under `selections` in params.yaml")
    parser.add_argument("--kept", type=Path, required=True, help="rows that the selection's filter kept")
    parser.add_argument("--validation", type=Path, required=True, help="validation rows, for a search")
    parser.add_argument("--texts", type=Path, required=True, help="general texts that may be replayed, for `protect`")
    parser.add_argument("--rehearsed", type=Path, required=True, help="the rehearse stage's folder, for `protect`")
    parser.add_argument("--base", type=Path, required=True, help="the base stage's folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for one seed-N folder per seed")


def run(args: argparse.Namespace, params: Params) -> None:
    """Choose for the seeds that are not finished yet, then copy all of them into the out folder."""
    from knowtune.common.errors import unknown
    from knowtune.common.files import read_json, read_rows, write_json
    from knowtune.data.contract import KEPT, check
    from knowtune.registry import member_class
    from knowtune.selectors import SELECTORS
    from knowtune.selectors.artefact import CARD
    from knowtune.selectors.run import ChoiceJob, choose_seed
    from stages.core.code import code_of
    from stages.core.compute import compute_of, require_one_process
    from stages.core.models import open_base
    from stages.core.seeds import make_seeds
    from stages.core.work import work_folder

    require_one_process("select")
    if args.name not in params.selections:
        raise unknown("selection", args.name, params.selections)
    settings = params.selections[args.name]
    selector = member_class(SELECTORS, "selector", settings.strategy)(**settings.options)
    base = open_base(params, args.base)
    decides = [settings.model_dump(exclude={"seeds"}), compute_of(params).__dict__, params.task.model_dump()]
    read = [args.rehearsed, args.texts] if selector.sources else []  # nothing that it does not read decides about it
    inputs = [args.kept, args.validation, args.base, *read]
    work = work_folder(f"select-{args.name}", decides, inputs, code_of("stages.select", settings, params))
    rows = check(read_rows(args.kept), KEPT, str(args.kept))
    warmup, search = _warmup(settings), _search(settings, args.validation)
    material = _material(selector, base, args.rehearsed, args.texts)

    def make(seed: int, folder: Path, partial: Path) -> None:
        job = ChoiceJob(args.name, settings.strategy, selector, seed, rows, warmup, search, material)
        choose_seed(job, base, folder, partial)
        last, protected = _numbers(read_json(folder / CARD)), read_json(folder / CARD)["protected"]
        kept = "" if last["num_parameters"] is None else f", {last['num_parameters']:,} parameters"
        print(f"select {args.name}: seed {seed}: {last['num_rows']} of {len(rows)} rows{kept}")
        if protected is not None:
            print(
                f"select {args.name}: seed {seed}: {protected['share']:.0%} of the entries are protected, with "
                f"{protected['mass']:.1%} of what carries the base's knowledge; the mask touches "
                f"{protected['mass_touched']:.1%} of it"
            )

    make_seeds(f"select {args.name}", settings.seeds, work, args.out, make)
    cards = {f"seed-{seed}": read_json(args.out / f"seed-{seed}" / CARD) for seed in settings.seeds}
    write_json(args.out / "summary.json", {seed: _numbers(card) for seed, card in cards.items()})


def _numbers(card: dict[str, Any]) -> dict[str, Any]:
    """Take from a selection's card what a reader compares: sizes, what is kept, what is protected."""
    numbers = {key: card["trace"][-1][key] for key in ("num_rows", "num_parameters", "mass_kept")}
    return numbers | ({} if card["protected"] is None else {"protected": card["protected"]})


def _material(selector: Selector, base: Base, rehearsed: Path, texts: Path) -> Material | None:
    """Read what the base knew, of the sources that a selection protects."""
    from knowtune.preserve.sources import make_material, read_sources
    from knowtune.selectors.scope import Scoped

    protect = selector.protect if isinstance(selector, Scoped) else None
    if protect is None:
        return None
    return make_material(base, read_sources(protect.sources, rehearsed, texts), protect.max_text_tokens)


def _warmup(settings: SelectionParams) -> Warmup | None:
    """Make the adapter that a selection names, with its training before the scoring."""
    from knowtune.selectors.run import Warmup
    from stages.core.runs import method_of

    adapter = settings.adapter
    return None if adapter is None else Warmup(adapter.method, method_of(adapter), adapter.warmup)


def _search(settings: SelectionParams, validation: Path) -> Search | None:
    """Make what a search needs: the method that trains masks, how long, and validation rows."""
    from knowtune.common.files import read_rows
    from knowtune.data.contract import ROW_COLUMNS, ROWS, check
    from knowtune.methods import METHODS
    from knowtune.registry import member_class
    from knowtune.selectors.run import Search

    if settings.trial is None:
        return None
    rows = check(read_rows(validation, ROW_COLUMNS), ROWS, str(validation))
    return Search(member_class(METHODS, "method", "fish")(), settings.trial, rows)


if __name__ == "__main__":
    sys.exit(command.main("stages.select"))
