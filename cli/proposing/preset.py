"""Write a preset: a whole params file with comments, in which what the user named is quoted as YAML needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.proposing.keeping import Keeping
from cli.proposing.numbers import BATCH, Numbers
from cli.proposing.trial import HELD_OUT
from stages.core.params import yaml_text

METRICS = {
    "knowledge": ["reliability", "generalisation", "text_drift", "kl_to_base", "text_loss", "pushed_away", "pushed_by"],
    "classification": ["accuracy", "f1", "matthews", "drift", "similarity_order"],
    "regression": ["pearson", "spearman", "drift", "similarity_order"],
}
OF_KNOWN = ["known", "forgotten", "locality", "gained"]  # what is measured where there are known rows
OF_LONG = ["token_f1", "contains", "answer_loss"]  # where answers are long, exact ones are none for all
MOST_NAMED = 6  # labels, in a text that every input comes after
TEMPLATE = Path(__file__).with_name("preset.yaml.txt")


@dataclass(frozen=True)
class Preset:
    """What goes into a preset.

    Args:
        name: of the preset.
        about: lines about where it comes from and what is not sure.
        task: kind and options.
        hub: entries.
        data: `source.data`.
        text: `source.text`.
        text_column: its column.
        files: roles that have files.
        several_answers: `source.several_answers`.
        columns: the mapping.
        max_rejected: share.
        base: `base.path`.
        metrics: `evaluate.metrics`.
        keeping: what is done against forgetting.
        numbers: the rest.
    """

    name: str
    about: Sequence[str]
    task: dict[str, Any]
    hub: dict[str, dict[str, Any]]
    data: str
    text: str
    text_column: str
    files: dict[str, str]
    several_answers: bool
    columns: dict[str, Any]
    max_rejected: float
    base: str
    metrics: Sequence[str]
    keeping: Keeping
    numbers: Numbers

    def text_of_file(self) -> str:
        """Fill the template."""
        n, kind = self.numbers, str(self.task["kind"])
        roles = {role: self.files.get(role) for role in ("train", "validation", "test", "known")}
        cases = "paraphrases" in self.columns  # say themselves what is tested
        held_out = {role: 0 if cases or roles[role] else share for role, share in HELD_OUT.items()}
        lora = {"rank": n.rank, "alpha": 2 * n.rank}
        end, end_of_prefix = (
            f"preserve: {_flow(preserve)}, seeds: {_flow(n.seeds)}}}"
            for preserve in (self.keeping.preserve, self.keeping.of_prefix)
        )
        runs = [f"lora: {{selection: clean, method: lora, options: {_flow(lora)}, {end}"]
        if n.full_rate is not None:
            training = _flow({"learning_rate": n.full_rate})
            runs.append(f"full: {{selection: clean, method: full, training: {training}, {end}")
        words = {"text": _words(self.task)}
        others = [
            f"kasa: {{selection: clean, method: kasa, options: {_flow(lora)}, {end}"
            "   # or LoRA on weights without their smallest singular values (docs/guide/kasa.md)",
            f"words: {{selection: clean, method: sk_tuning, options: {_flow(words)}, {end_of_prefix}"
            "   # or virtual tokens that begin at this text (docs/guide/sk-tuning.md)",
        ]
        if kind == "knowledge":
            inner = _flow({"method": "lora", "options": lora})
            others.append(
                f"woven: {{selection: clean, method: imsm, inner: {inner}, {end}"
                "   # or LoRA with the base beside it at every token (docs/guide/imsm.md)"
            )
        filled = {
            **{name: _flow(value) for name, value in vars(n).items()},
            "about": "\n".join(f"# {comment(line)}" for line in self.about),
            "name": self.name,
            "experiment": _flow(self.name),
            "task": _flow(self.task),
            "hub": "".join(f"\n  {_flow(name)}: {_flow(entry)}" for name, entry in self.hub.items()) or " {}",
            "data": _flow(self.data),
            "text": _flow(self.text),
            "text_column": _flow(self.text_column),
            "files": _flow(roles),
            "held_out": _flow(held_out),
            "several_answers": _flow(self.several_answers),
            "columns": "".join(f"\n    {key}: {_flow(value)}" for key, value in self.columns.items()),
            "max_rejected": _flow(self.max_rejected),
            "base": _flow(self.base),
            "replay": _flow(self.keeping.replay),
            "rehearse": _flow(self.keeping.rehearse),
            "why": self.keeping.why,
            "cost": self.keeping.cost,
            "metrics": _flow(list(self.metrics)),
            "batch": BATCH,
            "lr_scheduler_type": "cosine" if kind == "knowledge" else "linear",
            "runs": "".join(f"\n  {run}" for run in runs),
            "others": "".join(f"\n  # {run}" for run in others),
        }
        return TEMPLATE.read_text(encoding="utf-8").format_map(filled)


def _words(task: dict[str, Any]) -> str:
    """Write a text from which virtual tokens may begin: what the task is, as the authors of SK-Tuning put it."""
    labels = [str(label) for label in task.get("labels", [])]
    if labels:
        return f"Classify the text as {' or '.join(labels[:MOST_NAMED])}, text: "
    return "Answer: " if task["kind"] == "knowledge" else "Give the number for the text: "


def _flow(value: Any) -> str:
    """Write a value as YAML on one line."""
    return yaml_text(value, one_line=True)


def comment(line: str) -> str:
    """Make one line of a text, without signs that YAML does not take."""
    return "".join(sign if sign.isprintable() else "?" for sign in " ".join(line.split()))
