"""What a file's columns may be for: the task and the column mapping, from names and contents, and what is not sure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cli.proposing import names
from cli.proposing.columns import PLAIN, Column
from cli.proposing.facts import describe, unique
from cli.proposing.names import named

FEW_LABELS = 100  # as names
FEW_NUMBERS = 20  # as whole numbers; more are scores


@dataclass
class Guess:
    """A task and a column mapping.

    Args:
        task: its kind.
        columns: as in params.yaml.
        taken: what each column is taken for.
        unsure: sentences about what may be otherwise.
    """

    task: str
    columns: dict[str, Any]
    taken: dict[str, str]
    unsure: list[str] = field(default_factory=list)

    @property
    def label(self) -> str | None:
        """The label column of a classification."""
        return str(self.columns["label"]) if self.task == "classification" else None


def propose(columns: Sequence[Column], *, generates: bool | None = None) -> Guess | None:
    """Propose what the columns are for.

    Args:
        columns: as they look.
        generates: whether the model writes text; None where that is not known. One that does not has no use for
            prompts.

    Returns:
        The likeliest guess, or None where nothing fits.
    """
    usable = {column.name: column for column in columns if not column.unusable}
    ways: list[Callable[[Mapping[str, Column]], Guess | None]] = [_chats, _labels, _prompts, _maybe_labels, _triples]
    if generates is False:
        ways = [_labels, _maybe_labels]
    elif generates:
        ways = [_chats, _prompts, _labels, _maybe_labels, _triples]
    guesses = (way(usable) for way in ways)
    return next((guess for guess in guesses if guess is not None), None)


def _chats(usable: Mapping[str, Column]) -> Guess | None:
    """Take a column of messages."""
    chats = {name: column for name, column in usable.items() if column.kind == "chat"}
    found = named(chats, names.CHATS) or next(iter(chats.values()), None)
    if found is None:
        return None
    rest = {name: column for name, column in usable.items() if column is not found}
    facts, taken = describe(rest, [], [])
    guess = Guess("knowledge", {**facts, "messages": found.name}, {found.name: "messages", **taken})
    odd = sum(cell[-1].get("role") != "assistant" for cell in found.cells if cell)
    if odd:
        guess.unsure.append(f"{odd} chats do not end with the assistant; these rows will be rejected")
    return guess


def _prompts(usable: Mapping[str, Column]) -> Guess | None:
    """Take a prompt and a target by their names."""
    texts = {name: column for name, column in usable.items() if column.kind == "text"}
    answers = {name: column for name, column in usable.items() if column.kind in (*PLAIN, "list")}
    target = named(answers, names.TARGETS)
    prompt = named({name: column for name, column in texts.items() if column is not target}, names.PROMPTS)
    if target is None or prompt is None or (target.plain_name in names.LABELS and _is_label(target)):
        return None
    taken = {prompt.name: "prompt", target.name: "target"}
    template = prompt.name
    for first, second, shape in names.FURTHER_PROMPTS:
        one, other = named(texts, [first]), named(texts, [second])
        if one and other and target not in (one, other) and one.in_templates and other.in_templates:
            template = shape.format(one.name, other.name)
            taken = {one.name: "part of the prompt", other.name: "part of the prompt", target.name: "target"}
            break
    rest = {name: column for name, column in usable.items() if name not in taken}
    facts, more = describe(rest, prompt.cells, target.cells)
    guess = Guess("knowledge", {**facts, "prompt": template, "target": target.name}, {**taken, **more})
    if template != prompt.name:
        guess.unsure.append(f"the template of the prompt, {template!r}: write it as the model knows it")
    if target.kind != "list" and target.distinct <= 10 < len(target.filled):
        guess.unsure.append(f"only {target.distinct} different answers in {target.name!r}: maybe it is a label column")
    return guess


def _labels(usable: Mapping[str, Column]) -> Guess | None:
    """Take a label or score by its name."""
    return _labelled(usable, named(_plain(usable), names.LABELS))


def _maybe_labels(usable: Mapping[str, Column]) -> Guess | None:
    """Take what may be a label: by a name that says less, or the only column with few values."""
    plain = _plain(usable)
    found = named(plain, [*names.SCORES, *names.MAYBE_LABELS])
    few = [c for c in plain.values() if 2 <= c.distinct <= len(c.filled) / 5 and _is_label(c)]
    found = found or (few[0] if len(few) == 1 else None)
    guess = _labelled(usable, found)
    if guess and found and found.plain_name not in names.SCORES:
        guess.unsure.append(f"{found.name!r} is taken for the {guess.taken[found.name]}; its name does not say so")
    return guess


def _triples(usable: Mapping[str, Column]) -> Guess | None:
    """Take subject, relation and object, with a template."""
    found = [named(_plain(usable), choice) for choice in names.TRIPLES]
    subject, relation, target = found
    if not (subject and relation and target and subject.in_templates and relation.in_templates):
        return None
    facts, taken = describe(usable, [], [])
    taken |= {target.name: "target"}
    template = f"{{{subject.name}}} {{{relation.name}}} "
    guess = Guess("knowledge", {**facts, "prompt": template, "target": target.name}, taken)
    guess.unsure.append(f"the template of the prompt, {template!r}: does it read as the start of a sentence?")
    return guess


def _labelled(usable: Mapping[str, Column], label: Column | None) -> Guess | None:
    """Find the texts beside a label."""
    if label is None:
        return None
    texts = {name: c for name, c in usable.items() if c is not label and c.kind == "text" and c.name}
    pairs = ((named(texts, [one]), named(texts, [other])) for one, other in names.PAIRS)
    text, pair = next(((one, other) for one, other in pairs if one and other), (None, None))
    text = text or named(texts, names.TEXTS) or max(texts.values(), key=lambda c: c.words, default=None)
    score = label.kind == "number" or (label.kind == "whole number" and label.distinct > FEW_NUMBERS)
    if text is None or not (score or _is_label(label)):
        return None
    task, role = ("regression", "score") if score else ("classification", "label")
    taken = {text.name: "text", **({pair.name: "second text"} if pair else {}), label.name: role}
    row_id = unique({name: c for name, c in usable.items() if name not in taken})
    mapping = {"id": row_id, "text": text.name, "text_pair": pair.name if pair else None, "label": label.name}
    guess = Guess(task, mapping, {**taken, **({row_id: "id"} if row_id else {})})
    others = [repr(name) for name, column in texts.items() if name not in guess.taken and column.words >= 2]
    if others:
        guess.unsure.append(f"the text is {text.name!r}; {', '.join(others)} would be text too and is left out")
    if task == "classification" and label.plain_name in names.SCORES:
        guess.unsure.append(f"{label.name!r} has few values and is taken for labels; as a score it were regression")
    return guess


def _plain(usable: Mapping[str, Column]) -> dict[str, Column]:
    """Keep columns of one value a row."""
    return {name: column for name, column in usable.items() if column.kind in PLAIN}


def _is_label(column: Column) -> bool:
    """Tell a column of few, short values."""
    if column.kind == "whole number":
        return column.distinct <= FEW_NUMBERS
    few = column.distinct <= min(FEW_LABELS, max(2, len(column.filled) / 2))
    return column.kind == "truth" or (column.kind == "text" and few and column.words <= 5)
