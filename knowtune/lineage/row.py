"""A row, forward: what became of it at each step, which models learned it, and what would have to be trained again.

Every step reads one line of one file (`knowtune.lineage.row_files`), so that a row costs the same among a million.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from knowtune.common.errors import UserError
from knowtune.lineage.artefacts import Find, Layout
from knowtune.lineage.graph import Graph, Node
from knowtune.lineage.row_files import Row, rows_where, rows_with

TABLES = ("train", "validation", "test", "replay", "retention", "replay_texts", "rejected")
SHOWN = 20  # rows that a piece of text is found in, and relatives of a row
TEXT = ("prompt", "text_pair", "target", "text")  # columns that a person reads
SCORED = ("fish", "ird")  # selectors whose score is Fisher information

# How a row came into an adapter: the strongest first.
TRAINED, WARMED, KEPT, PROMPT = "trained", "warm-up of the selection's adapter", "kept from the base", "its prompt"


class Rows:
    """The tables of a pipeline, read row by row.

    Args:
        graph: of the pipeline.
        layout: where things lie.
        find: see `knowtune.lineage.artefacts.make_graph`.
    """

    def __init__(self, graph: Graph, layout: Layout, find: Find) -> None:
        self.graph, self.at, self.find = graph, layout, find
        self._known: dict[tuple[str, str], list[Row] | None] = {}  # seeds of a run ask the same file

    def look_up(self, wanted: str) -> str:
        """Return the id that is meant: an id, or a piece of text that one row alone contains.

        Raises:
            UserError: no row has it, or several have.
        """
        if any(True for table in TABLES for _ in self.where(table, wanted)):
            return wanted
        found: dict[str, list[str]] = {}
        shown: dict[str, Row] = {}
        for table in TABLES:
            path = self.find(f"{self.at.prepared}/{table}.jsonl")
            for row in [] if path is None else rows_with(path, wanted):
                if any(wanted.casefold() in str(row.get(column, "")).casefold() for column in TEXT):
                    found.setdefault(str(row["id"]), []).append(table)
                    shown.setdefault(str(row["id"]), row)
        if len(found) == 1:
            return next(iter(found))
        if not found:
            raise UserError(
                f"ROW: got {wanted!r}, which is neither a row's id nor part of a row's text in {self.at.prepared}; "
                "ids stand in its train.jsonl"
            )
        lines = [f"  {name}  ({', '.join(found[name])})  {text_of(shown[name])}" for name in list(found)[:SHOWN]]
        more = [f"  and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        raise UserError(
            "\n".join([f"ROW: got {wanted!r}, which {len(found)} rows contain; give an id:", *lines, *more])
        )

    def where(self, table: str, value: str, column: str = "id") -> Iterator[Row]:
        """Yield the rows of a prepared table whose column holds a value."""
        path = self.find(f"{self.at.prepared}/{table}.jsonl")
        return iter(()) if path is None else rows_where(path, column, value)

    def trace(self, name: str) -> dict[str, Any]:
        """Say what became of a row.

        Args:
            name: its id.

        Returns:
            `row` as it was prepared; `tables` that hold it; `rejected`, `noise`, `answer` of the base; `filters`,
            `selections`, `runs`, `models` with a dict for each member; `retrain`, the models that would have to be
            trained again without it; `chosen_with`, those that did not see it, but whose rows, parameters or alpha were
            chosen with its help; `same_prompt` and `same_fact`, ids of training rows.
        """
        tables = {table: rows for table in TABLES if (rows := list(self.where(table, name)))}
        trained = tables.get("train", [])
        row = next((rows[0] for rows in tables.values()), {})
        selections = [self._selection(node, name) for node in self.graph.of("selection")]
        runs = [self.run_of(node, name) for node in self.graph.of("adapter")]
        saw = [self.graph.nodes[f"adapter {run['name']}"] for run in runs if run["saw"]]
        hold, helped = self._models(saw), self.graph.forward(self.helped(self.graph, name))
        chosen = [*helped.of("adapter"), *(node for node in helped.of("mixture") if "chosen_on" in node.facts)]
        return {
            "id": name,
            "row": row,
            "tables": list(tables),
            "rejected": [rejected["reason"] for rejected in tables.get("rejected", [])],
            "noise": _first(self.where("label_noise", name)),
            "answer": _first(self._in(f"{self.at.answers}/answers.jsonl", name)) if trained else {},
            "filters": [self._filter(node, name) for node in self.graph.of("filter")] if trained else [],
            "selections": selections if trained else [],
            "runs": runs,
            "models": [_named(node) for node in hold],
            "retrain": [node.name for node in saw],
            "chosen_with": [node.name for node in chosen if node not in hold],
            "same_prompt": self._relatives(row, "prompt"),
            "same_fact": self._relatives(row, "fact"),
        }

    def _in(self, path: str, name: str) -> list[Row] | None:
        """Return the rows of a file that carry an id; None where the file's bytes are gone."""
        if (path, name) not in self._known:
            found = self.find(path)
            self._known[path, name] = None if found is None else list(rows_where(found, "id", name))
        return self._known[path, name]

    def _filter(self, node: Node, name: str) -> dict[str, Any]:
        """Say what a filter decided."""
        kept, dropped = (self._in(f"{node.path}/{table}.jsonl", name) for table in ("kept", "dropped"))
        row = (kept or dropped or [{}])[0]
        cosine = self._in(f"{node.path}/cosines.jsonl", name) if "interference" in node.facts["strategy"] else []
        return {
            "name": node.name,
            "kept": True if kept else False if dropped else None,
            **{key: row[key] for key in ("strategy", "reason", "distance") if key in row},
            **{key: found["cosine"] for found in cosine or [] for key in ("cosine",)},
        }

    def _selection(self, node: Node, name: str) -> dict[str, Any]:
        """Say what a selection made of the row: whether it was there to choose, its score, whether it was chosen."""
        rows = self._in(f"{node.path}/rows.jsonl", name)
        row = (rows or [{}])[0]
        strategy = node.facts["strategy"]
        score = (row.get("score") or None) if strategy in SCORED else None  # 0 of a row that was no sample
        return {
            "name": node.name,
            "strategy": strategy,
            "read": None if rows is None else bool(rows),
            "chosen": row.get("chosen"),
            "score": score,
        }

    def run_of(self, node: Node, name: str) -> dict[str, Any]:
        """Say whether an adapter saw the row, how, and with which weight."""
        above = self.graph.back([node])
        chosen = next((self._selection(selection, name) for selection in above.of("selection")), {})
        ways = []
        if chosen.get("read") and (node.facts["train_on"] == "all" or chosen.get("chosen")):
            ways.append(TRAINED)
        elif chosen.get("read") and any(s.facts.get("adapter") for s in above.of("selection")):
            ways.append(WARMED)
        for kept in above.of("kept"):
            for source in kept.facts.get("sources", {}):
                if self._in(f"{kept.path}/{source}.jsonl", name):
                    ways.append(PROMPT if source == "prompts" else KEPT)
        weight = _first(self._in(f"{node.path}/weights.jsonl", name)) if node.facts.get("reweight") and ways else {}
        return {
            "name": node.name,
            "saw": ways,
            "weight": weight.get("weight"),
            "unknown": chosen.get("read") is None,
            "selection": chosen.get("name"),
        }

    def helped(self, part: Graph, name: str) -> list[Node]:
        """List the selections and mixtures of a part of the graph that were chosen with a row's help."""
        tables = {table: f"{self.at.prepared}/{table}.jsonl" for table in ("validation", "replay")}
        tables |= {"known": f"{self.at.rehearsed}/known.jsonl", "text": f"{self.at.prepared}/replay_texts.jsonl"}
        return [
            node
            for node in (*part.of("selection"), *part.of("mixture"))
            if (node.kind == "selection" and self._selection(node, name)["score"] is not None)
            or any(self._in(tables[table], name) for table in node.facts.get("chosen_on", ()) if table in tables)
        ]

    def _models(self, adapters: Iterable[Node]) -> list[Node]:
        """List the models that hold what some adapters learned."""
        reached = self.graph.forward(adapters)
        return [node for kind in ("adapter", "merged", "mixture", "version") for node in reached.of(kind)]

    def _relatives(self, row: Row, column: str) -> list[str]:
        """List the training rows with the same prompt or of the same fact."""
        if not row.get(column):
            return []
        others = (str(other["id"]) for other in self.where("train", str(row[column]), column))
        return [other for other in others if other != row["id"]][:SHOWN]


def text_of(row: Row) -> str:
    """Show a row in one line."""
    shown = " | ".join(str(row[column]) for column in TEXT[:2] if row.get(column)) or str(row.get("text", ""))
    shown = shown if len(shown) <= 100 else f"{shown[:100]}…"
    return f"{shown!r} -> {row['target']!r}" if "target" in row else repr(shown)


def _first(rows: Iterable[Row] | None) -> Row:
    """Return the first row without its id, {} where there is none."""
    return next(({key: value for key, value in row.items() if key != "id"} for row in rows or ()), {})


def _named(node: Node) -> dict[str, str]:
    """Name a model."""
    return {"kind": node.kind, "name": node.name, "path": node.path}
