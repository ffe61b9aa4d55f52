"""Show the gate's verdict: which model is to be shipped and why, or why none, rule by rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.promotion.verdict import SHIP, read_verdict

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--json", action="store_true", help="print the verdict as it is on disk")


def show_verdict(folder: Path, *, as_json: bool) -> int:
    """Print the verdict.

    Args:
        folder: the project or a workspace.
        as_json: print JSON.

    Returns:
        0 where a model is to be shipped, else 1.

    Raises:
        UserError: there is no verdict yet.
    """
    verdict = read_verdict(folder)
    if as_json:
        print(json.dumps(verdict, indent=2, ensure_ascii=False))
    else:
        _print(verdict)
    return 0 if verdict["verdict"] == SHIP else 1


def _print(verdict: dict[str, Any]) -> None:
    """Print the rules of the model that was judged, then what became of the others."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    console.print(escape(verdict["summary"]), highlight=False)
    if verdict["checks"]:
        table = Table("rule", "", "what was measured", title=escape(f"{verdict['judged']}, rule by rule"))
        table.title_justify = "left"
        for check in verdict["checks"]:
            table.add_row(escape(check["name"]), "holds" if check["passed"] else "FAILS", escape(check["text"]))
        console.print(table)
    for other in verdict["candidates"]:
        if other["run"] != verdict["judged"]:
            why = "; ".join(other["failed"]) or "passes too"
            console.print(escape(f"{other['run']}: {why}"), highlight=False)
