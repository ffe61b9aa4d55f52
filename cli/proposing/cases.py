"""Recognise records of whole cases, as data for knowledge editing come: new and old answer, paraphrases, locality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cli.proposing.columns import Column, look, plain

# Names as `plain` writes them, likeliest first; of a nested column the innermost name, or the two innermost.
PROMPTS = ["prompt", "src", "question", "query", "prompts", "questions"]
NEW = ["target_new", "target_new_str", "new_answer", "new_target", "edit_target", "answer_new", "target_false", "alt"]
OLD = ["ground_truth", "target_true", "target_true_str", "old_answer", "answer_old", "original_answer", "old_target",
       "answers"]  # fmt: skip
PARAPHRASES = ["paraphrase_prompts", "paraphrase_prompt", "paraphrases", "paraphrase", "rephrase_prompt", "rephrase",
               "rephrases", "rephrased_prompt", "rephrase_prompts"]  # fmt: skip
LOCALITY = [("locality_prompt", "locality_ground_truth"), ("locality_prompts", "locality_ground_truths"),
            ("loc", "loc_ans"), ("locality", "locality_answer"), ("locality_question", "locality_answer"),
            ("neighborhood_prompts", "target_true_str"), ("neighborhood_prompts", "target_true"),
            ("neighborhood_prompts", "ground_truth")]  # fmt: skip
IDS = ["case_id", "case", "id", "known_id", "uid"]
SUBJECTS = ["subject"]
RELATIONS = ["relation_id", "relation"]
DEEPEST = 3


def case_columns(columns: Sequence[Column]) -> dict[str, Any] | None:
    """Propose the mapping of cases, or None where the columns are none.

    A case has a new answer by one of its usual names, and besides it an old answer, paraphrases or locality.
    """
    leaves = {leaf.name: leaf for column in columns for leaf in _leaves(column, DEEPEST)}
    target = _find(leaves, NEW)
    rest = {name: leaf for name, leaf in leaves.items() if name != target}
    prompt = _find({name: leaf for name, leaf in rest.items() if not _of_locality(name)}, PROMPTS)
    if target is None or prompt is None:
        return None
    old, paraphrases = _find(rest, OLD), _find(rest, PARAPHRASES)
    prompts, targets = _locality(rest)
    if not (old or paraphrases or prompts):
        return None
    row_id = _find(rest, IDS)
    distinct = row_id is not None and leaves[row_id].distinct == len(leaves[row_id].cells)
    return {
        "id": row_id if distinct else None,
        "relation": _find(rest, RELATIONS),
        "subject": _find(rest, SUBJECTS),
        "prompt": prompt,
        "target": target,
        "old": old,
        "paraphrases": paraphrases,
        "locality_prompt": prompts,
        "locality_target": targets,
    }


def _locality(leaves: Mapping[str, Column]) -> tuple[Any, Any]:
    """Find the columns of locality: a pair by usual names, or all pairs below a column that is called so (KnowEdit)."""
    for one, other in LOCALITY:
        prompt, target = _find(leaves, [one]), _find(leaves, [other])
        if prompt and target:
            return prompt, target
    inner = [name for name in leaves if _of_locality(name) and plain(name.rpartition(".")[2]) == "prompt"]
    inner = [name for name in inner if plain(name.partition(".")[0]) == "locality"]
    pairs = [(name, f"{name.rpartition('.')[0]}.ground_truth") for name in inner]
    pairs = [pair for pair in pairs if pair[1] in leaves]
    if not pairs:
        return None, None
    return [one for one, _ in pairs], [other for _, other in pairs]


def _of_locality(name: str) -> bool:
    """Tell a column below one that is called locality or portability, which is not read."""
    return plain(name.partition(".")[0]) in ("locality", "portability") and "." in name


def _find(leaves: Mapping[str, Column], names: Sequence[str]) -> str | None:
    """Find the column that has the first of the names, whole or innermost."""
    for wanted in names:
        for name in leaves:
            parts = name.split(".")
            if wanted in (plain(name), plain(parts[-1]), plain("_".join(parts[-2:]))):
                return name
    return None


def _leaves(column: Column, deepest: int) -> list[Column]:
    """List the columns inside a nested one, by dotted names; one that is not nested is its own."""
    if column.kind != "nested" or not deepest:
        return [column] if column.kind not in ("nested", "empty") else _lists(column)
    cells = [cell for cell in column.cells if isinstance(cell, dict)]
    if not cells:
        cells = [part for cell in column.cells if isinstance(cell, list) for part in cell if isinstance(part, dict)]
    inside = [leaf for inner in look(cells) for leaf in _leaves(_with_outer_name(inner, column.name), deepest - 1)]
    return inside or _lists(column)


def _with_outer_name(inner: Column, outer: str) -> Column:
    """Name an inner column by the way to it."""
    return Column(f"{outer}.{inner.name}", inner.kind, inner.cells, inner.everywhere)


def _lists(column: Column) -> list[Column]:
    """Take a column of lists of lists, which answers may be."""
    return [column] if any(isinstance(cell, list) for cell in column.cells) else []
