"""What a file's columns may be for: the task and the column mapping, from names and contents, and what is not sure.

What the user says of the columns goes first. Of the rest, a guess that changes what is learned is a doubt, and stands
in the way of a preset; what is merely worth knowing is a note.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cli.proposing import names
from cli.proposing.cases import case_columns
from cli.proposing.columns import PLAIN, Column
from cli.proposing.facts import describe, unique
from cli.proposing.names import find_column, find_pair
from cli.proposing.overrides import Overrides
from knowtune.text.cell_paths import LIST
from knowtune.text.templates import is_template, template_columns

FEW_LABELS = 100  # as names
FEW_NUMBERS = 20  # as whole numbers; more are scores
LISTS = ("list", "written list")
TEXTUAL = ("text", "whole number", "number", "truth", *LISTS)
Way = Callable[[Mapping[str, Column], Overrides], "Guess | None"]


@dataclass
class Guess:
    """A task and a column mapping.

    Args:
        task: its kind.
        columns: as in params.yaml.
        taken: what each column is taken for.
        notes: sentences about what is worth knowing.
        doubts: sentences about what may be otherwise, so that something else would be learned.
    """

    task: str
    columns: dict[str, Any]
    taken: dict[str, str]
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    @property
    def cases(self) -> bool:
        """Whether a record is a whole case, which says itself what is tested and what is known."""
        return "paraphrases" in self.columns

    @property
    def label(self) -> str | None:
        """The label column of a classification."""
        return str(self.columns["label"]) if self.task == "classification" else None


NOTHING = Overrides()


def propose(
    columns: Sequence[Column], *, generates: bool | None = None, overrides: Overrides = NOTHING
) -> Guess | None:
    """Propose what the columns are for.

    Args:
        columns: as they look.
        generates: whether the model writes text; None where that is not known. One that does not has no use for
            prompts.
        overrides: what the user says of them.

    Returns:
        The likeliest guess, or None where nothing fits.
    """
    usable = {column.name: column for column in columns if not column.unusable}
    if overrides.kind is None and generates is not False and (mapping := case_columns(columns)) is not None:
        return Guess("knowledge", mapping, _taken_of_case(mapping))
    ways: list[Way] = [_chats, _labels, _prompts, _maybe_labels, _triples]
    if overrides.kind is not None:
        ways = BY_KIND[overrides.kind]
    elif generates:
        ways = [_chats, _prompts, _labels, _maybe_labels, _triples]
    if generates is False:
        ways = [way for way in ways if way in (_labels, _maybe_labels)]
    guesses = (way(usable, overrides) for way in ways)
    best = next((guess for guess in guesses if guess is not None), None)
    if best is not None and overrides.fact is not None and best.task == "knowledge":
        best.columns["fact"] = overrides.fact
        best.taken[overrides.fact] = ", ".join(filter(None, (best.taken.get(overrides.fact), "fact")))
    return best


def _taken_of_case(mapping: Mapping[str, Any]) -> dict[str, str]:
    """Say what each column of a case is taken for; of a nested one, what is taken out of it."""
    words = {"old": "old answer", "locality_prompt": "locality", "locality_target": "answer of locality"}
    taken: dict[str, dict[str, None]] = {}
    for role, value in mapping.items():
        for name in value if isinstance(value, list) else [value] if value else []:
            taken.setdefault(name.partition(".")[0], {})[words.get(role, role)] = None
    return {name: ", ".join(roles) for name, roles in taken.items()}


def _columns_of(value: str, usable: Mapping[str, Column]) -> list[Column]:
    """List the columns that a column's name or a template names, as far as they are whole columns."""
    named_ones = template_columns(value) if is_template(value) else [value]
    return [usable[plain] for name in named_ones if (plain := name.removesuffix(LIST)) in usable]


def _take(taken: dict[str, str], value: str, usable: Mapping[str, Column], role: str) -> None:
    """Note what the columns of a name or template are taken for."""
    for column in _columns_of(value, usable):
        taken[column.name] = f"part of the {role}" if is_template(value) else role


def _chats(usable: Mapping[str, Column], overrides: Overrides) -> Guess | None:
    """Take a column of messages."""
    chats = {name: column for name, column in usable.items() if column.kind == "chat"}
    in_turn = {name: column for name, column in usable.items() if column.kind == "list"}  # user and assistant
    chat = find_column(chats, names.CHATS) or next(iter(chats.values()), None) or find_column(in_turn, names.CHATS)
    if overrides.messages is None and chat is None:
        return None
    name = overrides.messages or str(chat and chat.name)
    rest = {key: column for key, column in usable.items() if key != name}
    facts, taken = describe(rest, [], [])
    guess = Guess("knowledge", {**facts, "messages": name}, {name: "messages", **taken})
    cells = usable[name].cells if name in usable and usable[name].kind == "chat" else []
    odd = sum(_speaker(cell[-1]) != "assistant" for cell in cells if cell and isinstance(cell, list))
    if odd:
        guess.notes.append(f"{odd} chats do not end with the assistant; these rows will be rejected")
    return guess


def _speaker(message: Mapping[str, Any]) -> Any:
    """Say whose a message is."""
    who = message.get("role", message.get("from"))
    return "assistant" if who == "gpt" else who


def _prompts(usable: Mapping[str, Column], overrides: Overrides) -> Guess | None:
    """Take a prompt and a target, as the user says or by their names."""
    texts = {name: column for name, column in usable.items() if column.kind == "text"}
    answers = {name: column for name, column in usable.items() if column.kind in TEXTUAL}
    settled = [
        column.name for value in (overrides.prompt, overrides.target) if value for column in _columns_of(value, usable)
    ]
    free = {name: column for name, column in answers.items() if name not in settled}
    guessed = None if overrides.target else find_column(free, names.TARGETS)
    target = overrides.target or (guessed.value if guessed else None)
    if target is None or (
        guessed and not overrides.prompt and guessed.plain_name in names.LABELS and _is_label(guessed)
    ):
        return None
    beside = {name: column for name, column in texts.items() if column not in _columns_of(target, usable)}
    source = None if overrides.prompt else find_column(beside, names.PROMPTS)
    prompt = overrides.prompt or (_further(beside) or source.name if source else None)
    if prompt is None:
        return None
    taken: dict[str, str] = {}
    _take(taken, prompt, usable, "prompt")
    _take(taken, target, usable, "target")
    rest = {name: column for name, column in usable.items() if name not in taken}
    sources, answer_columns = (_columns_of(value, usable) for value in (prompt, target))
    several = is_template(target) or not answer_columns
    facts, more = describe(rest, sources[-1].cells if sources else [], [] if several else answer_columns[0].cells)
    guess = Guess("knowledge", {**facts, "prompt": prompt, "target": target}, {**taken, **more})
    if source and prompt != source.name:
        guess.notes.append(f"the template of the prompt, {prompt!r}: write it as the model knows it")
    if not several:
        _look_at_target(guess, answer_columns[0], overrides)
    return guess


def _look_at_target(guess: Guess, target: Column, overrides: Overrides) -> None:
    """Add what is worth knowing of a target's column."""
    if target.kind == "written list" and not str(guess.columns["target"]).endswith(LIST):
        guess.notes.append(
            f"the texts of {target.name!r} are written lists, and are learned as they are written; "
            f"TARGET={target.name}{LIST} reads them"
        )
    elif target.kind in LISTS:
        guess.notes.append(f"of each list in {target.name!r} the first answer is learned; any counts as right")
    elif not overrides.target and target.distinct <= 10 < len(target.filled):
        guess.notes.append(f"only {target.distinct} different answers in {target.name!r}: maybe it is a label column")


def _further(texts: Mapping[str, Column]) -> str | None:
    """Find a question with the text that it is about, and give their template."""
    for first, second, shape in names.FURTHER_PROMPTS:
        one, other = find_column(texts, [first]), find_column(texts, [second])
        if one and other and one.in_templates and other.in_templates:
            return shape.format(one.name, other.name)
    return None


def _labels(usable: Mapping[str, Column], overrides: Overrides) -> Guess | None:
    """Take a label or score, as the user says or by its name."""
    if overrides.label is not None:
        return _guess_labels(usable, usable.get(overrides.label), overrides)
    return _guess_labels(usable, find_column(_plain(usable), names.LABELS), overrides)


def _maybe_labels(usable: Mapping[str, Column], overrides: Overrides) -> Guess | None:
    """Take what may be a label: by a name that says less, or the only column with few values."""
    if overrides.label is not None:
        return None
    plain = _plain(usable)
    label = find_column(plain, [*names.SCORES, *names.MAYBE_LABELS])
    few = [c for c in plain.values() if 2 <= c.distinct <= len(c.filled) / 5 and _is_label(c)]
    label = label or (few[0] if len(few) == 1 else None)
    guess = _guess_labels(usable, label, overrides)
    if guess and label and label.plain_name not in names.SCORES:
        words = f"{label.name!r} is taken for the {guess.taken[label.name]}; its name does not say so"
        (guess.notes if label.plain_name in names.CALLED_SO else guess.doubts).append(words)
    return guess


def _triples(usable: Mapping[str, Column], _: Overrides) -> Guess | None:
    """Take subject, relation and object, with a template."""
    subject, relation, target = (find_column(_plain(usable), choice) for choice in names.TRIPLES)
    if not (subject and relation and target and subject.in_templates and relation.in_templates):
        return None
    facts, taken = describe(usable, [], [])
    taken |= {target.name: "target"}
    template = f"{{{subject.name}}} {{{relation.name}}} "
    guess = Guess("knowledge", {**facts, "prompt": template, "target": target.name}, taken)
    guess.doubts.append(f"the template of the prompt, {template!r}: does it read as the start of a sentence?")
    return guess


def _guess_labels(usable: Mapping[str, Column], label: Column | None, overrides: Overrides) -> Guess | None:
    """Find the texts beside a label."""
    if label is None:
        return None
    texts = {name: c for name, c in usable.items() if c is not label and c.kind == "text" and c.name}
    text, pair = overrides.text, overrides.pair
    if text is None:
        free = {name: c for name, c in texts.items() if pair is None or c not in _columns_of(pair, usable)}
        twins = find_pair(free) if pair is None else None
        column = twins[0] if twins else find_column(free, names.TEXTS) or max(free.values(), key=_words, default=None)
        text, pair = (column.name if column else None), (twins[1].name if twins else pair)
    number = label.kind in ("number", "whole number")
    score = label.kind == "number" or (label.kind == "whole number" and label.distinct > FEW_NUMBERS)
    if overrides.task is not None:
        score = number and overrides.task == "regression"
    if text is None or not (score or overrides.label or _is_label(label)):
        return None
    task, role = ("regression", "score") if score else ("classification", "label")
    taken = {label.name: role}
    _take(taken, text, usable, "text")
    if pair:
        _take(taken, pair, usable, "second text")
    row_id = unique({name: c for name, c in usable.items() if name not in taken})
    mapping = {"id": row_id, "text": text, "text_pair": pair, "label": label.name}
    guess = Guess(task, mapping, {**taken, **({row_id: "id"} if row_id else {})})
    others = [repr(name) for name, column in texts.items() if name not in guess.taken and column.words >= 2]
    if others and overrides.text is None:
        guess.doubts.append(f"the text is {text!r}; {', '.join(others)} would be text too and is left out")
    if overrides.task is None and task == "classification" and label.plain_name in names.SCORES:
        guess.doubts.append(f"{label.name!r} has few values and is taken for labels; as a score it were regression")
    return guess


def _words(column: Column) -> float:
    """Give the mean number of words."""
    return column.words


def _plain(usable: Mapping[str, Column]) -> dict[str, Column]:
    """Keep columns of one value a row."""
    return {name: column for name, column in usable.items() if column.kind in PLAIN}


def _is_label(column: Column) -> bool:
    """Tell a column of few, short values."""
    if column.kind == "whole number":
        return column.distinct <= FEW_NUMBERS
    few = column.distinct <= min(FEW_LABELS, max(2, len(column.filled) / 2))
    return column.kind == "truth" or (column.kind == "text" and few and column.words <= 5)


BY_KIND: dict[str, list[Way]] = {"chats": [_chats], "labels": [_labels, _maybe_labels], "prompts": [_prompts]}
