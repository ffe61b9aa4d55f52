"""Names that columns go by, likeliest first; written as `columns.plain` writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from cli.proposing.columns import Column

CHATS = ["messages", "conversations", "conversation", "chat", "dialog", "dialogue"]
PROMPTS = ["prompt", "question", "query", "instruction", "problem", "input", "inputs", "cloze", "stem", "request",
           "meaning_representation", "mr", "source", "article", "document", "text"]  # fmt: skip
TARGETS = ["target", "targets", "answer", "answers", "possible_answers", "answer_list", "correct_answers",
           "human_reference", "ref", "refs", "output", "outputs", "completion", "response", "solution",
           "reply", "chosen", "reference", "references", "obj_label", "object", "summary", "highlights",
           "label"]  # fmt: skip
# A question with the text that it is about: both names, and how they become a prompt.
FURTHER_PROMPTS = [
    ("instruction", "input", "{{{0}}}\n{{{1}}}\n\nAnswer: "),
    ("context", "question", "{{{0}}}\n\nQuestion: {{{1}}}\nAnswer: "),
    ("passage", "question", "{{{0}}}\n\nQuestion: {{{1}}}\nAnswer: "),
]
LABELS = ["label", "labels", "gold_label", "class", "label_text", "sentiment", "quality", "is_duplicate", "entailment"]
CALLED_SO = ["category", "intent", "emotion", "topic", "toxic", "spam"]  # labels, where a text stands beside them
MAYBE_LABELS = [*CALLED_SO, "type", "target", "answer", "output", "y"]  # fmt: skip
SCORES = ["score", "similarity", "similarity_score", "relatedness_score", "rating", "stars", "grade"]
# Two texts of a pair, beside those that `find_pair` finds: a number or a letter tells them apart.
PAIRS = [("premise", "hypothesis"), ("text", "text_pair"), ("question", "sentence"), ("question", "passage"),
         ("question", "context"), ("question", "document"), ("query", "document"), ("query", "passage"),
         ("query", "context"), ("query", "text"), ("text", "hypothesis"), ("claim", "evidence"),
         ("context", "response"), ("context", "question"), ("context", "sentence"), ("source", "target"),
         ("question", "answer"), ("anchor", "positive")]  # fmt: skip
TWINS = [("1", "2"), ("a", "b"), ("one", "two"), ("first", "second"), ("left", "right"), ("0", "1")]
TEXTS = ["text", "sentence", "review", "content", "comment", "tweet", "message", "utterance", "body", "document",
         "prompt", "question", "input"]  # fmt: skip
TRIPLES = [["subject", "sub_label", "head", "entity"], ["relation", "predicate", "property", "attribute"],
           ["object", "obj_label", "tail", "value"]]  # fmt: skip
UNIQUE = ["id", "uid", "guid", "uuid", "key", "idx", "index", "row_id", "example_id", "question_id", "qid", "name"]
FACTS = ["fact", "fact_id", "known_id", "case_id"]
SUBJECTS = ["subject", "subj", "sub_label", "entity", "thing", "head"]
RELATIONS = ["relation", "relation_id", "prop", "predicate_id", "predicate", "property", "attribute"]
TEMPLATES = ["template", "pattern", "wording", "paraphrase"]
GENERAL = ["text", "content", "story", "document", "sentence", "body"]


def find_column(columns: Mapping[str, Column], names: Iterable[str]) -> Column | None:
    """Find the column whose name stands first in a list."""
    by_name = {column.plain_name: column for column in reversed(list(columns.values()))}
    return next((by_name[name] for name in names if name in by_name), None)


def find_pair(columns: Mapping[str, Column]) -> tuple[Column, Column] | None:
    """Find two columns for the two texts of a pair: by usual names, or names that a number or letter tells apart."""
    usual = ((find_column(columns, [first]), find_column(columns, [second])) for first, second in PAIRS)
    pair = next(((one, other) for one, other in usual if one and other), None)
    by_name = {column.plain_name: column for column in columns.values()}
    for first, second in TWINS:
        for name, one in by_name.items():
            pattern = rf"(?<![a-z0-9]){first}(?![a-z0-9])" if first.isalpha() else rf"(?<!\d){first}(?!\d)"
            for match in re.finditer(pattern, name.replace("_", " ")):
                other = by_name.get(f"{name[: match.start()]}{second}{name[match.end() :]}")
                if other is not None and other is not one:
                    return one, other
    return pair
