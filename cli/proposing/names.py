"""Names that columns go by, likeliest first; written as `columns.plain` writes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cli.proposing.columns import Column

CHATS = ["messages", "conversations", "conversation", "chat", "dialog", "dialogue"]
PROMPTS = ["prompt", "question", "query", "instruction", "problem", "input", "inputs", "cloze", "stem", "request",
           "source", "article", "document", "text"]  # fmt: skip
TARGETS = ["target", "targets", "answer", "answers", "output", "outputs", "completion", "response", "solution",
           "reply", "chosen", "reference", "references", "obj_label", "object", "summary", "highlights",
           "label"]  # fmt: skip
# A question with what it is asked about: both names, and how they become a prompt.
FURTHER_PROMPTS = [
    ("instruction", "input", "{{{0}}}\n{{{1}}}\n\nAnswer: "),
    ("context", "question", "{{{0}}}\n\nQuestion: {{{1}}}\nAnswer: "),
    ("passage", "question", "{{{0}}}\n\nQuestion: {{{1}}}\nAnswer: "),
]
LABELS = ["label", "labels", "gold_label", "class", "label_text", "sentiment"]
MAYBE_LABELS = ["category", "intent", "emotion", "topic", "toxic", "spam", "is_duplicate", "entailment", "type",
                "target", "answer", "output", "y"]  # fmt: skip
SCORES = ["score", "similarity", "similarity_score", "relatedness_score", "rating", "stars", "grade"]
PAIRS = [("sentence1", "sentence2"), ("sentence_1", "sentence_2"), ("premise", "hypothesis"),
         ("question1", "question2"), ("text", "text_pair"), ("text1", "text2"), ("text_1", "text_2"),
         ("text_a", "text_b"), ("sentence_a", "sentence_b"), ("question", "sentence"), ("question", "passage"),
         ("question", "context"), ("query", "document"), ("query", "passage"), ("text", "hypothesis")]  # fmt: skip
TEXTS = ["text", "sentence", "review", "content", "comment", "tweet", "message", "utterance", "body", "document",
         "prompt", "question", "input"]  # fmt: skip
TRIPLES = [["subject", "sub_label", "head", "entity"], ["relation", "predicate", "property", "attribute"],
           ["object", "obj_label", "tail", "value"]]  # fmt: skip
UNIQUE = ["id", "uid", "guid", "uuid", "key", "idx", "index", "row_id", "example_id", "question_id", "qid", "name"]
FACTS = ["fact", "fact_id", "known_id", "case_id"]
SUBJECTS = ["subject", "sub_label", "entity", "thing", "head"]
RELATIONS = ["relation", "relation_id", "predicate_id", "predicate", "property", "attribute"]
WORDINGS = ["wording", "pattern", "template", "paraphrase"]
GENERAL = ["text", "content", "story", "document", "sentence", "body"]


def named(columns: Mapping[str, Column], names: Iterable[str]) -> Column | None:
    """Find the column whose name stands first in a list."""
    by_name = {column.plain_name: column for column in reversed(list(columns.values()))}
    return next((by_name[name] for name in names if name in by_name), None)
