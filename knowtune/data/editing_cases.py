"""One case a record, as data for knowledge editing comes: what is learned, its paraphrases, what must not change.

    prompt -> target            train   what replaces `old`
    each paraphrase -> target   test    (generalisation)
    each locality prompt        known   with a target of its own; see the metric `forgotten`

A record may hold several edits, as MQuAKE's do: then prompt, target, old and subject are lists of one length, and so
are the paraphrases. Where a prompt or paraphrase has {} or {subject}, the subject stands there, as in CounterFact.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from knowtune.common.errors import UserError
from knowtune.common.files import text_digest
from knowtune.data.contract import ROW_COLUMNS
from knowtune.data.raw import Reading
from knowtune.data.rejection import fault_of_answers
from knowtune.text.cell_paths import MissingColumnError, take
from knowtune.text.cells import key_of, text_of
from knowtune.text.normalize import joint
from knowtune.text.templates import is_template, template_columns

if TYPE_CHECKING:
    from knowtune.tasks.base import Task

SLOTS = ("{}", "{subject}")  # where a prompt of the data has its subject


class Cases:
    """Reads cases, and counts what became of them.

    Args:
        columns: as in params.yaml: prompt and target; id, relation, subject, old, paraphrases, locality_prompt and
            locality_target, or None. A name with dots leads into a record, `a[]` is a list that is written as text: see
            `knowtune.text.cells.take`. The prompts may be templates of columns in braces. Paraphrases and the two of
            locality may be several columns.
        task: reads targets.
    """

    def __init__(self, columns: Mapping[str, Any], task: Task) -> None:
        self.columns, self.task = columns, task
        self.num_cases = 0
        self.counts = {"train": 0, "test": 0, "known": 0, "old": 0}

    def __call__(self, record: Mapping[str, Any]) -> list[Reading]:
        """Turn a case into rows.

        Raises:
            MissingColumnError: a column of the mapping is not there; parts inside a column may be missing, but for
                those of prompt and target.
            ValueError: lists of different length, or what is no text.
        """
        readings = [*self._edits(record), *self._locality(record)]
        self.num_cases += 1
        for reading in readings:
            self.counts[reading.role or "train"] += 1
            self.counts["old"] += bool(reading.cells["old"])
        return readings

    def summary(self) -> str:
        """Say in a line what became of what.

        Raises:
            UserError: a column of the mapping gave nothing at all.
        """
        gave = {"old": "old", "paraphrases": "test", "locality_prompt": "known"}
        empty = [key for key, count in gave.items() if self.columns[key] and not self.counts[count]]
        if empty:
            names = "; ".join(f"source.columns.{key}: {self.columns[key]!r}" for key in empty)
            raise UserError(f"prepare: no record has anything there: {names}; correct it, or null where there is none")
        counts = self.counts
        parts = [f"{counts['train']} training rows (prompt -> target)"]
        parts += [f"{counts['test']} test rows (paraphrases -> target)"] if counts["test"] else []
        parts += [f"{counts['known']} known rows (locality)"] if counts["known"] else []
        old = f"; {counts['old']} rows have an old answer beside the target" if counts["old"] else ""
        return f"{self.num_cases} cases became {', '.join(parts)}{old}"

    def _edits(self, record: Mapping[str, Any]) -> list[Reading]:
        """Read what is learned, and its paraphrases."""
        columns = self.columns
        prompts, targets = _prompts(record, columns["prompt"], needed=True), take(record, columns["target"])
        several = isinstance(prompts, list)
        num = len(prompts) if several else 1
        given = {name: _cell(record, columns[name]) for name in ("old", "subject", "relation")}
        given |= {"target": targets, "paraphrases": self._paraphrases(record, several=several)}
        parts = {name: _one_each(cell, num, name) if several else [cell] for name, cell in given.items()}
        answers = [self._answers(cell, columns["target"]) for cell in parts["target"]]
        fact = key_of(take(record, columns["id"])) if columns["id"] else text_digest([prompts, answers])[:16]
        readings = []
        for number, prompt in enumerate(prompts if several else [prompts]):
            subject = key_of(parts["subject"][number])
            about = {"fact": fact, "relation": key_of(parts["relation"][number]), "subject": subject}
            old = [one for one in self._answers(parts["old"][number], "old") if one not in answers[number]]
            first = f"{number}:" if several else ""
            prompts_of: list[tuple[str, str | None, str]] = [(_with(subject, text_of(prompt)), None, first.rstrip(":"))]
            for i, paraphrase in enumerate(_as_list(parts["paraphrases"][number])):
                prompts_of.append((_with(subject, text_of(paraphrase)), "test", f"{first}paraphrase:{i}"))
            for text, role, part in prompts_of:
                name = "paraphrases" if role else "prompt"
                readings.append(self._row(name, text, answers[number], old, about, role, part))
        return readings

    def _paraphrases(self, record: Mapping[str, Any], *, several: bool) -> Any:
        """Read the paraphrases of the one edit, or a list of those of each."""
        cells = [_prompts(record, name) for name in _as_list(self.columns["paraphrases"])]
        if several:
            return cells[0] if len(cells) == 1 else None
        return [paraphrase for cell in cells for paraphrase in _as_list(cell)]

    def _locality(self, record: Mapping[str, Any]) -> list[Reading]:
        """Read what must not change."""
        names, targets = (_as_list(self.columns[f"locality_{key}"]) for key in ("prompt", "target"))
        targets = targets * len(names) if len(targets) == 1 else targets
        readings: list[Reading] = []
        for name, target in zip(names, targets, strict=True):
            prompts, answers = _prompts(record, name), _cell(record, target)
            if not isinstance(prompts, list):
                prompts, answers = [prompts], [answers]
            elif not (isinstance(answers, list) and len(answers) == len(prompts)):
                if isinstance(answers, list) and len(prompts) != 1:
                    raise ValueError(f"{name}: {len(prompts)} prompts, and {target} has {len(answers)} targets")
                answers = [answers] * len(prompts)
            for prompt, answer in zip(prompts, answers, strict=True):
                if text := text_of(prompt):
                    part = f"locality:{len(readings)}"
                    right = self._answers(answer, target)
                    readings.append(self._row("locality_prompt", text, right, [], {}, "known", part))
        return readings

    def _answers(self, cell: Any, name: str) -> list[str]:
        """Read right or old answers: one, a list, or lists of them."""
        flat = [one for part in _as_list(cell) for one in _as_list(part)]
        try:
            return self.task.read_target(flat)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    def _row(
        self,
        name: str,
        prompt: str,
        answers: list[str],
        old: list[str],
        about: Mapping[str, str],
        role: str | None,
        part: str,
    ) -> Reading:
        """Make a row of a prompt that the key `name` of the mapping gave."""
        target = answers[0] if answers else ""
        plain = not any(is_template(column) for column in _as_list(self.columns[name]))
        cells = {
            **dict.fromkeys(ROW_COLUMNS[1:], ""),
            **about,
            "prompt": prompt + joint(prompt, target) if plain else prompt,
            "target": target,
            "aliases": "\n".join(answers[1:]),
            "old": "\n".join(old),
        }
        return Reading(cells, fault_of_answers(answers[1:], old), role, part)


def _cell(record: Mapping[str, Any], name: str | None) -> Any:
    """Take what need not be in every record: parts inside a column may be missing, a column may not."""
    if name is None:
        return None
    try:
        return take(record, name)
    except MissingColumnError:
        if "." in name and name.partition(".")[0] in record:
            return None
        raise


def _prompts(record: Mapping[str, Any], name: str, *, needed: bool = False) -> Any:
    """Take a prompt or a list of prompts; of a template with lists in it, one prompt for each part."""
    get = take if needed else _cell
    if not is_template(name):
        return get(record, name)
    cells = {column: get(record, column) for column in template_columns(name)}
    lengths = {len(cell) for cell in cells.values() if isinstance(cell, list)}
    if len(lengths) > 1:
        raise ValueError(f"{name}: lists of {sorted(lengths)} parts; allowed: of one length")
    parts = [
        {column: text_of(cell[i] if isinstance(cell, list) else cell) for column, cell in cells.items()}
        for i in range(lengths.pop() if lengths else 1)
    ]
    filled = [_fill(name, part) for part in parts]
    return filled if any(isinstance(cell, list) for cell in cells.values()) else filled[0]


def _fill(template: str, cells: Mapping[str, str]) -> str:
    """Put cells into a template."""
    parts = string.Formatter().parse(template)
    return "".join(text + (cells[name] if name is not None else "") for text, name, _, _ in parts)


def _one_each(cell: Any, count: int, name: str) -> list[Any]:
    """Give a part for each of several edits: a list's own, or all the same."""
    if not isinstance(cell, list):
        return [cell] * count
    if len(cell) != count:
        raise ValueError(f"{name}: got {len(cell)} parts; allowed: {count}, one for each prompt")
    return cell


def _as_list(cell: Any) -> list[Any]:
    """Give a list as it is, nothing as none, and all else as a list of one."""
    return cell if isinstance(cell, list) else [] if cell is None else [cell]


def _with(subject: str, prompt: str) -> str:
    """Put the subject where a prompt has a slot for it."""
    if subject:
        for slot in SLOTS:
            prompt = prompt.replace(slot, subject)
    return prompt
