"""Lineage in words: what a node says of itself in one line, a model's chain as a table, a row's way step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from knowtune.lineage.graph import Node
from knowtune.lineage.row import text_of

UNSEEN = "did not see it"
SHORT = 8  # digits of a digest
HOLDERS = {"adapter": "adapters", "merged": "merged models", "mixture": "mixtures"}


def says(node: Node) -> str:
    """Say in one line what its card says."""
    return SAYS[node.kind](node.facts) if node.kind in SAYS else ""


def brief(node: Node) -> str:
    """Say it in a few words."""
    facts = node.facts
    if node.kind == "filter" and "rows" in facts:
        return f"{facts['rows']['kept']:,} of {facts['rows']['read']:,} rows kept"
    if node.kind == "selection" and "num_rows" in facts:
        mask = f"{facts['num_parameters']:,} params" if facts.get("mask") else "all params"
        return f"{facts['num_rows']:,} rows, {mask}"
    if node.kind == "rows" and "train" in facts:
        return f"{facts['train']:,} rows, {facts['facts']:,} facts"
    short = {"base": "identity", "adapter": "method", "mixture": "strategy"}
    return str(facts.get(short[node.kind], "")) if node.kind in short else says(node)


def table_of(nodes: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Tell a chain as a table, from the model back to its sources.

    Args:
        nodes: as `Graph.as_dict` gives them, each with the `md5` that was recorded for it where there is one.
    """
    table = [("what", "name", "says", "md5", "where")]
    for node in reversed(list(nodes)):
        plain = Node(node["kind"], node["name"], facts=node["facts"])
        table.append((node["kind"], node["name"], says(plain), node.get("md5", "")[:SHORT], node["path"]))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def row_lines(trace: Mapping[str, Any]) -> Iterator[str]:
    """Tell a row's way as lines of text."""
    yield f"{trace['id']}  {text_of(trace['row'])}"
    yield f"stands in: {', '.join(trace['tables'])}"
    for what, names in (("same prompt", trace["same_prompt"]), ("same fact", trace["same_fact"])):
        if names:
            yield f"{what}: {', '.join(names)}"
    for reason in trace["rejected"]:
        yield f"rejected: {reason}"
    if trace["noise"]:
        noise = trace["noise"]
        yield f"injected noise: {noise['kind']}; the original target is {noise['original']!r}"
    if trace["answer"]:
        answer = trace["answer"]
        right = "right" if answer["correct"] else "wrong"
        yield f"the base answers {answer['answer']!r} ({right}), distance {_number(answer['distance'])}"
    for title, key, line in (
        ("filters", "filters", _filter),
        ("selections", "selections", _selection),
        ("adapters", "runs", _run),
    ):
        told = _by_member([(entry["name"], line(entry)) for entry in trace[key]])
        if {words for _, words in told} == {UNSEEN}:
            told = [("none", "of them saw it")]
        if told:
            yield f"\n{title}"
            width = max(len(name) for name, _ in told)
            yield from (f"  {name:{width}}  {words}" for name, words in told)
    yield ""
    yield from _conclusion(trace)


def _conclusion(trace: Mapping[str, Any]) -> Iterator[str]:
    """Say which models would have to be trained again without the row."""
    models, whole = trace["models"], [run["name"] for run in trace["runs"]]
    if models:
        yield f"if this row goes, train again: {', '.join(members_of(trace['retrain'], whole))}"
        counts = {title: sum(model["kind"] == kind for model in models) for kind, title in HOLDERS.items()}
        yield f"it is held by {', '.join(f'{count} {title}' for title, count in counts.items() if count)}"
        mixed = [model["name"] for model in models if model["kind"] == "mixture"]
        if mixed:
            yield f"mixtures of them: {', '.join(members_of(mixed))}"
    elif not trace["chosen_with"]:
        yield "no model learned this row: none has to be trained again if it goes"
    if trace["chosen_with"]:
        chosen = ", ".join(members_of(trace["chosen_with"], whole))
        yield f"not learned, but chosen with its help; if it goes, choose again and make anew: {chosen}"


def version_line(version: Mapping[str, Any]) -> str:
    """Say whether a registered version holds the row."""
    aliases = f" ({', '.join(version['aliases'])})" if version["aliases"] else ""
    unseen = UNSEEN + ", but was chosen with its help" * version["helped"]
    told = f"saw it ({', '.join(version['saw'])})" if version["saw"] else unseen
    return f"  {version['name']}{aliases}  {'unknown' if version['faults'] else told}"


def members_of(names: Iterable[str], among: Iterable[str] = ()) -> list[str]:
    """Join names of seeds by member, e.g. "lora (seeds 0, 1)"; "lora" where these are all that there are of it."""
    seeds, there = _seeds(names), _seeds(among)
    return [
        member if not own or own == there.get(member) else f"{member} (seed{'s' * (len(own) > 1)} {', '.join(own)})"
        for member, own in seeds.items()
    ]


def _seeds(names: Iterable[str]) -> dict[str, list[str]]:
    """List the seeds of each member."""
    seeds: dict[str, list[str]] = {}
    for name in names:
        member, _, seed = name.partition("/seed-")
        seeds.setdefault(member, []).extend([seed] if seed else [])
    return seeds


def _by_member(told: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Say once what is the same of several seeds of a member."""
    names: dict[tuple[str, str], list[str]] = {}
    for name, words in told:
        names.setdefault((name.partition("/")[0], words), []).append(name)
    there = [name for name, _ in told]
    return [(members_of(same, there)[0], words) for (_, words), same in names.items()]


def _filter(entry: Mapping[str, Any]) -> str:
    """Say what a filter decided."""
    if entry["kept"] is None:
        return "unknown: what it wrote is gone"
    verdict = "kept" if entry["kept"] else f"dropped by {entry['strategy']}: {entry['reason']}"
    measured = [f"{key} {_number(entry[key])}" for key in ("distance", "cosine") if entry.get(key) is not None]
    return f"{verdict}{'  ' if measured else ''}{', '.join(measured)}"


def _selection(entry: Mapping[str, Any]) -> str:
    """Say what a selection decided."""
    if entry["read"] is None:
        return "unknown: what it wrote is gone"
    if not entry["read"]:
        return "not there to choose: its filter dropped it"
    verdict = "chosen" if entry["chosen"] else "not chosen"
    score = "" if entry["score"] is None else f"  Fisher score {_number(entry['score'])}"
    return f"{verdict}{score}"


def _run(entry: Mapping[str, Any]) -> str:
    """Say how an adapter saw the row."""
    weight = "" if entry["weight"] is None else f"  weight {_number(entry['weight'])}"
    if entry["saw"]:
        return f"saw it ({', '.join(entry['saw'])}){weight}"
    return "unknown: its selection is gone" if entry["unknown"] else UNSEEN


def _number(value: Any) -> str:
    """Write a number; there may be none."""
    return "none" if value is None else f"{value:.4g}"


def _base(facts: Mapping[str, Any]) -> str:
    """Name a base, with the revision of one that was fetched."""
    origin = facts.get("origin")
    revision = f", {origin['repo']} at {origin['revision']}" if isinstance(origin, Mapping) else ""
    return f"{facts.get('identity', 'unknown')}{revision}, digest {_short(facts.get('digest'))}"


def _rows(facts: Mapping[str, Any]) -> str:
    """Count training rows."""
    noise = sum((facts.get("label_noise") or {}).values())
    injected = f", {noise} with injected noise" if noise else ""
    return (
        f"{facts.get('train')} training rows of {facts.get('facts')} facts, {facts.get('rejected')} rejected{injected}"
    )


def _kept_rows(facts: Mapping[str, Any]) -> str:
    """Count what a filter kept and dropped."""
    rows = facts.get("rows", {})
    dropped = ", ".join(
        f"{count} by {name.partition('. ')[2]}" for name, count in (rows.get("dropped") or {}).items() if count
    )
    counts = f"{rows['kept']} of {rows['read']} rows kept" if rows else "unknown"
    return f"{counts}; dropped: {dropped}" if dropped else counts


def _chosen(facts: Mapping[str, Any]) -> str:
    """Say what a selection chose."""
    mask = f"mask of {facts['num_parameters']:,} parameters" if facts.get("mask") else "all parameters"
    return f"{facts['strategy']} on {facts['filter']}: {facts.get('num_rows')} rows, {mask}"


def _adapter(facts: Mapping[str, Any]) -> str:
    """Describe a trained adapter."""
    options = ", ".join(f"{k} {v}" for k, v in (facts.get("options") or {}).items() if isinstance(v, int | float | str))
    reweight = facts.get("reweight")
    weighed = f", weighed ({reweight['form']})" if isinstance(reweight, Mapping) else ""
    what = f"{facts.get('method')}{f' ({options})' if options else ''}{weighed}"
    counts = f"{facts.get('num_rows')} rows, {facts.get('num_steps')} steps"
    return f"{what}: {counts}; weights {_short(facts.get('weights_digest'))}"


def _merged(facts: Mapping[str, Any]) -> str:
    """Describe a merged model."""
    parity = facts.get("parity")
    differ = "" if parity is None else f", logits differ by {parity:.1e}"
    return f"{facts.get('kind', 'unknown')}{differ}; weights {_short(facts.get('weights_digest'))}"


def _mixture(facts: Mapping[str, Any]) -> str:
    """Describe a mixture."""
    sources = f"{'all seeds of ' if facts.get('seeds') == 'all' else ''}{', '.join(facts.get('from', []))}"
    return f"{facts.get('strategy')} of {sources}; weights {_short(facts.get('weights_digest'))}"


def _version(facts: Mapping[str, Any]) -> str:
    """Describe a registered version."""
    aliases = ", ".join(facts.get("aliases", [])) or "no alias"
    return f"{aliases}; commit {_short(facts.get('commit'))}, run {_short(facts.get('run'))}"


def _kept(facts: Mapping[str, Any]) -> str:
    """Say what a run keeps of its base, and from what."""
    parts = [part for part in ("replay", "distill", "anchor") if part in facts]
    sources = ", ".join(f"{count} of {name}" for name, count in facts.get("sources", {}).items())
    return f"{', '.join(parts)}{': ' if sources else ''}{sources}"


def _short(value: Any) -> str:
    """Shorten a digest."""
    return str(value)[:SHORT] if value else "unknown"


SAYS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "base": _base,
    "rows": _rows,
    "filter": _kept_rows,
    "selection": _chosen,
    "kept": _kept,
    "adapter": _adapter,
    "merged": _merged,
    "mixture": _mixture,
    "version": _version,
}
