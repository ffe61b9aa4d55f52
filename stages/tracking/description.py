"""What somebody who opens a reproduction for the first time wants to know: data, base, code, stages, what came out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowtune.checkpoints.cards import CARD
from stages.core.pipeline import Stage
from stages.tracking.book import Book, metrics_of, params_of, tags_of
from stages.tracking.lineage import Digest, Locked, datasets, is_code
from stages.tracking.numbers import read_numbers, whole_json
from stages.tracking.view import share_view

Row = dict[str, Any]
CONFIGURATION = "params.yaml"


@dataclass(frozen=True)
class Facts:
    """What the parent says.

    Args:
        sources: what no stage makes, with DVC's digest.
        base: the base's card.
        counts: how many stages did what.
        failed: names of stages.
        board: the leaderboard as text.
        fresh: whether the leaderboard is this reproduction's: the whole pipeline was brought up to date.
    """

    sources: Mapping[str, Digest]
    base: Mapping[str, Any]
    counts: Mapping[str, int]
    failed: list[str]
    board: str
    fresh: bool


def describe(
    book: Book, cwd: Path, stages: Mapping[str, Stage], rows: list[Row], locked: Locked, when: float, *, good: bool
) -> None:
    """Write tags, source datasets, final metrics as of `when` and the note onto the parent run."""
    facts = _gather(book, cwd, stages, rows, locked, good)
    if facts.sources:
        book.client.log_inputs(book.parent, datasets=list(datasets(facts.sources, {}, "source")))
    skipped = [row for row in rows if row["happened"] == "skipped"]
    tags = {f"produced_by.{row['stage'].replace('@', '.')}": row["made by run"] for row in skipped}  # MLflow bars the @
    tags |= {f"stages.{what}": str(number) for what, number in facts.counts.items()}
    tags |= {
        "data": ", ".join(f"{name} {entry['md5'][:8]}" for name, entry in facts.sources.items()),
        "base": str(facts.base.get("identity", "unknown")),
        "base_digest": str(facts.base.get("digest", "unknown")),
        "mlflow.note.content": "\n\n".join(_note(book, facts)),
    }
    numbers: dict[str, float] = {}
    if facts.fresh:
        final = {out: cwd / out for stage in stages.values() for out in stage.metrics}
        numbers, _ = read_numbers({out: path for out, path in final.items() if path.is_file()})
        share_view(book, numbers)
    identity = params_of({"base.identity": tags["base"]}.items())
    book.client.log_batch(book.parent, metrics_of(numbers, when), identity, tags_of(tags))


def _gather(book: Book, cwd: Path, stages: Mapping[str, Stage], rows: list[Row], locked: Locked, good: bool) -> Facts:
    """Look the facts up."""
    made = {out for stage in stages.values() for out in stage.outs}
    read = {name: entry for stage in locked.values() for name, entry in stage["deps"].items()}
    sources = {
        name: entry
        for name, entry in read.items()
        if name != CONFIGURATION
        and not is_code(cwd, name)
        and not any(Path(name).is_relative_to(out) or out.startswith(f"{name}/") for out in made)
    }
    families = {name.partition("@")[0] for name in stages}
    whole = good and not any(word.partition("@")[0] in families for word in book.opened["command"])
    happened = {row["stage"]: row["happened"] for row in rows}
    boards = [
        (stage.name, cwd / out) for stage in stages.values() for out in stage.outs
        if out.endswith(".md") and (cwd / out).is_file()
    ]  # fmt: skip
    return Facts(
        sources=sources,
        base=next((_card(cwd / out / CARD) for out in sorted(made) if (cwd / out / CARD).is_file()), {}),
        counts={what: list(happened.values()).count(what) for what in ("ran", "skipped", "failed", "interrupted")},
        failed=[name for name, what in happened.items() if what == "failed"],
        board=boards[0][1].read_text(encoding="utf-8", errors="replace") if boards else "",
        fresh=whole or any(happened[name] == "ran" for name, _ in boards),
    )


def _card(path: Path) -> dict[str, Any]:
    """Read a base's card; a damaged one says nothing."""
    card = whole_json(path)
    return card if isinstance(card, dict) else {}


def _note(book: Book, facts: Facts) -> Iterator[str]:
    """Describe the reproduction in Markdown; MLflow shows the first lines and folds the rest away."""
    changed = (book.opened["changed"] or "").splitlines()
    data = ", ".join(f"`{name}` ({entry['md5'][:8]})" for name, entry in facts.sources.items())
    base = f"{facts.base.get('identity', 'unknown')} ({str(facts.base.get('digest', ''))[:8]})"
    since = f" and changes to {', '.join(line[3:] for line in changed[:10])}" if changed else ""
    commit = (book.opened["commit"] or "none")[:8]
    yield f"**Data** {data} · **base** {base} · **code** {commit}{since}"
    if facts.failed:
        yield f"**Failed** {', '.join(facts.failed)}"
    if facts.board:
        yield f"**What came out{'' if facts.fresh else ' of an earlier reproduction'}**"
        yield facts.board
    counts = ", ".join(f"{number} {what}" for what, number in facts.counts.items() if number)
    yield f"**Stages** {counts}; stages.json among the artifacts lists them, their runs are below this one"
