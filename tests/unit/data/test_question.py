"""What is typed becomes what was trained: the same tokens up to the target."""

from __future__ import annotations

import copy
import json
from typing import Any

import pandas as pd
import pytest

from knowtune.common.errors import UserError
from knowtune.data.column_mapping import reader_for
from knowtune.data.question import question_cells
from knowtune.text.encode_rows import encode_prompts, encode_rows
from tests.unit.helpers import REVIEWS, TASK

ABOUT: dict[str, Any] = dict.fromkeys(("id", "fact", "relation", "subject", "template"))
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


@pytest.fixture
def talker(tokenizer: Any) -> Any:
    made = copy.deepcopy(tokenizer)
    made.chat_template = TEMPLATE
    return made


def read_and_asked(columns: dict[str, Any], record: dict[str, Any], question: str, tokenizer: Any) -> dict[str, str]:
    """Check that a question is asked with the tokens that a record's row is learned with; give what is asked."""
    cells = reader_for({**ABOUT, **columns}, TASK, tokenizer)(record)[0].cells
    row = encode_rows(tokenizer, [cells["prompt"]], [cells["target"]], [cells["layout"]])[0]
    found = question_cells(question, {**ABOUT, **columns}, TASK, tokenizer, cells["layout"])
    ids = encode_prompts(tokenizer, [found["prompt"]], [found["layout"]])[0]
    assert ids == row.input_ids[: row.target_start]
    return found


class TestAsTrained:
    @pytest.mark.parametrize(
        ("question", "target"),
        [
            ("Who lives in Rome? It is", "Ada"),
            ("### Response:\n", "Ada"),
            ("def f():", "\n    return"),
            ("中国的首都是", "北京"),
            ("The tag </s> is", "<s>"),
            ("  a\n\n", "b"),
        ],
    )
    def test_a_plain_column(self, question: str, target: str, tokenizer: Any) -> None:
        read_and_asked({"prompt": "q", "target": "a"}, {"q": question, "a": target}, question, tokenizer)

    @pytest.mark.parametrize("question", ["Who?", " Who?\n", "Who is {x} </s>?"])
    def test_a_template_of_one_column(self, question: str, tokenizer: Any) -> None:
        columns = {"prompt": "<s>Q: {q}\nA ({q}): ", "target": "{a}</s>"}
        found = read_and_asked(columns, {"q": question, "a": "Ada"}, question, tokenizer)
        assert found["prompt"] == f"<s>Q: {question}\nA ({question}): "
        assert json.loads(found["layout"])["ending"] == "</s>"

    def test_a_template_of_several_columns(self, tokenizer: Any) -> None:
        columns, record = {"prompt": "{q} {r}: ", "target": "a"}, {"q": "Who", "r": 7, "a": "Ada"}
        read_and_asked(columns, record, json.dumps({"q": "Who", "r": 7}), tokenizer)
        for question in ("Who", '{"q": "Who"}', "{q"):
            with pytest.raises(UserError) as caught:
                question_cells(question, columns, TASK, tokenizer)
            assert str(caught.value) == (
                'Q: the prompt is made of several columns; give them as a JSON object: Q=\'{"q": "...", "r": "..."}\''
            )

    @pytest.mark.parametrize("question", ["Who lives in </s> Rome?", "  two\nlines\n"])
    def test_a_chat(self, question: str, talker: Any) -> None:
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": "Ada"}]
        found = read_and_asked({"messages": "chat"}, {"chat": messages}, question, talker)
        assert found["prompt"] == f"<s>[user] {question}</s>\n[assistant] "
        read_and_asked({"messages": "chat"}, {"chat": messages}, json.dumps(messages[:1]), talker)
        read_and_asked({"messages": "chat"}, {"chat": messages}, json.dumps({"messages": messages[:1]}), talker)
        prompts = {"prompt": "p", "target": "c"}
        read_and_asked(prompts, {"p": messages[:1], "c": messages[1:]}, question, talker)

    def test_a_chat_that_the_template_refuses(self, talker: Any) -> None:
        talker.chat_template = "{{ raise_exception('no') }}"
        with pytest.raises(UserError, match=r"^Q: the chat template refuses the messages: no$"):
            question_cells("Hi", {**ABOUT, "messages": "chat"}, TASK, talker)

    def test_the_embedded_facts(self, tokenizer: Any) -> None:
        found = question_cells("The capital of Chile is", None, TASK, tokenizer)
        assert found == {"prompt": "The capital of Chile is ", "text_pair": "", "layout": ""}

    def test_a_classifiers_texts(self, words: Any) -> None:
        columns = {"id": None, "text": "{t} [SEP]", "text_pair": "u", "label": "y"}
        cells = reader_for(columns, REVIEWS, words)({"t": "the film", "u": "good", "y": 1})[0].cells
        expected = REVIEWS.encode(words, pd.DataFrame([cells]))[0].input_ids
        for question in ("the film ||| good", '{"t": "the film", "u": "good"}'):
            found = question_cells(question, columns, REVIEWS, words)
            assert REVIEWS.encode(words, pd.DataFrame([{**found, "target": ""}]))[0].input_ids == expected
        assert (
            question_cells("the film", {**columns, "text": "t", "text_pair": None}, REVIEWS, words)["prompt"]
            == "the film"
        )


class TestRaw:
    def test_the_text_is_sent_as_it_is(self, talker: Any) -> None:
        text = "<s>[user] Hi</s>\n[assistant]"
        for columns in ({**ABOUT, "messages": "chat"}, {**ABOUT, "prompt": "{q}!", "target": "a"}, None):
            found = question_cells(text, columns, TASK, talker, raw=True)
            assert found["prompt"] == text
            ids = encode_prompts(talker, [found["prompt"]], [found["layout"]])[0]
            assert ids == talker(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("question", ["", " \n"])
def test_nothing(question: str, tokenizer: Any) -> None:
    with pytest.raises(UserError, match=r"^Q: got nothing; allowed: the start of a sentence"):
        question_cells(question, None, TASK, tokenizer)
