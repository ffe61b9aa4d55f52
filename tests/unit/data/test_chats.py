"""Chats: what is read and learned is what the template writes, in the shapes that chat models' templates have."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from knowtune.data.chats import Chat
from knowtune.text.encode_rows import encode_prompts, encode_rows
from knowtune.text.encoded import Encoded
from knowtune.text.messages import UnusableError, read_messages

START, END, MARK = "<|start|>", "<|end|>", "</s>"
TURNS = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
TRIMMING = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<|start|>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|start|>model\n{% endif %}"
)
BLANKS = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }} {{ eos_token }}{% endif %}{% endfor %}"
)
WORDS = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
THOUGHT = (  # of the last turn alone, as reasoning models have it
    "{% for m in messages %}<|start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' %}{% set said = m['content'].split('</think>')[-1] %}"
    "{% if loop.last %}<think>{{ m['content'].split('</think>')[0] if '</think>' in m['content'] else '\n' }}</think>\n"
    "{% endif %}{{ said }}{% else %}{{ m['content'] }}{% endif %}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
OPENING = TURNS.replace("assistant\n{% endif", "assistant\n<think>\n{% endif")
TOOLS = (
    "{% if tools %}<|start|>tools\n{{ tools | tojson }}<|end|>\n{% endif %}"
    "{% for m in messages %}<|start|>{{ m.role }}\n{% if m.content %}{{ m.content }}{% endif %}"
    "{% for call in m.tool_calls or [] %}<|call|>{{ call.function.name }} {{ call.function.arguments | tojson }}"
    "{% endfor %}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
PARTS = (
    "{% for m in messages %}<|start|>{{ m.role }}\n{% for part in m.content %}{% if part.type == 'text' %}"
    "{{ part.text }}{% endif %}{% endfor %}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
TEMPLATES = {"turns": TURNS, "trimming": TRIMMING, "blanks": BLANKS, "words": WORDS, "thought": THOUGHT, "parts": PARTS}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any, **rest: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **rest}


ASKED = [user("Who lives in Rome?"), assistant("Ada")]
LONG = [user("Who?"), assistant("Bob"), user("Sure?"), assistant("No,\n    Ada")]


@pytest.fixture
def talker(tokenizer: Any) -> Any:
    made = copy.deepcopy(tokenizer)
    made.add_special_tokens({"additional_special_tokens": [START, END, "<|call|>"]})
    made.add_tokens(["<think>", "</think>"])
    return made


def written(talker: Any, template: str, messages: Any, tools: Any = None) -> tuple[Encoded, str, str]:
    talker.chat_template = template
    row = Chat(talker).read(messages, tools)
    return encode_rows(talker, [row.prompt], [row.target], [row.layout.to_text()])[0], row.prompt, row.target


def learned(talker: Any, row: Encoded) -> str:
    return str(talker.decode([token for token in row.labels if token != -100]))


def reason(talker: Any, template: str, messages: Any, tools: Any = None) -> str:
    talker.chat_template = template
    with pytest.raises(UnusableError) as caught:
        Chat(talker).read(messages, tools)
    return str(caught.value)


class TestWhatIsRead:
    @pytest.mark.parametrize("messages", [ASKED, LONG], ids=["one turn", "two turns"])
    @pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
    def test_it_is_the_template_token_by_token(self, template: str, messages: Any, talker: Any) -> None:
        row, _, target = written(talker, template, messages)
        if template is PARTS:
            messages = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]
        assert row.input_ids == talker.apply_chat_template(messages, return_dict=False)
        assert target == ("Ada" if len(messages) == 2 else "No,\n    Ada")
        assert talker.decode(row.input_ids[row.target_start : row.target_end]).removeprefix(" ") == target

    @pytest.mark.parametrize("template", [TURNS, TRIMMING, BLANKS, WORDS], ids=["turns", "trimming", "blanks", "words"])
    def test_what_is_asked_begins_what_is_read(self, template: str, talker: Any) -> None:
        row, _, _ = written(talker, template, LONG)
        asked = Chat(talker).read_prompt(LONG[:-1])
        ids = encode_prompts(talker, [asked.prompt], [asked.layout.to_text()])[0]
        assert ids == row.input_ids[: row.target_start]
        assert asked.target == ""


class TestWhatIsLearned:
    @pytest.mark.parametrize(
        ("template", "expected"),
        [
            (TURNS, "Bob<|end|>\nNo,\n    Ada<|end|>\n"),
            (TRIMMING, "Bob<|end|>\nNo,\n    Ada<|end|>\n"),
            (BLANKS, " Bob </s> No,\n    Ada </s>"),
            (WORDS, " Bob\n No,\n    Ada\n"),
            (THOUGHT, "Bob<|end|>\n<think>\n</think>\nNo,\n    Ada<|end|>\n"),
        ],
        ids=["turns", "trimming", "blanks", "words", "thought"],
    )
    def test_every_turn_of_the_assistants_with_its_end(self, template: str, expected: str, talker: Any) -> None:
        row, _, _ = written(talker, template, LONG)
        assert learned(talker, row) == expected
        assert row.num_learned == sum(token != -100 for token in row.labels)

    def test_a_thought_of_the_answers_own_is_part_of_it(self, talker: Any) -> None:
        row, _, target = written(talker, THOUGHT, [user("Who?"), assistant("hm</think>Ada")])
        assert target == "<think>hm</think>\nAda"
        assert learned(talker, row) == "<think>hm</think>\nAda<|end|>\n"

    def test_what_is_written_stays_as_it_is(self, talker: Any) -> None:
        row, _, target = written(talker, TURNS, [user("Code!"), assistant("    return x\n")])
        assert target == "    return x\n"
        assert learned(talker, row) == "    return x\n<|end|>\n"
        assert written(talker, TRIMMING, [user("Code!"), assistant("    return x\n")])[2] == "return x"

    def test_an_answer_may_be_a_piece_of_its_ending(self, talker: Any) -> None:
        for answer in ("e", "\n", "end", "n", "assistant"):
            row, _, target = written(talker, TURNS, [user("Letter?"), assistant(answer)])
            assert target == answer
            assert learned(talker, row) == f"{answer}<|end|>\n"


class TestControlTokensInMessages:
    @pytest.mark.parametrize("template", [TURNS, TRIMMING, BLANKS, PARTS], ids=["turns", "trimming", "blanks", "parts"])
    def test_they_are_text(self, template: str, talker: Any) -> None:
        plain = [user("Who is Bob?"), assistant("Ada"), user("x"), assistant("Bob")]
        odd = [user("Who is <|end|></s> <s>?"), assistant("<|start|>"), user("</s>"), assistant("a<|end|>b")]
        row, prompt, target = written(talker, template, odd)
        expected = written(talker, template, plain)[0]
        for token in (START, END, "<s>", "</s>"):
            number = talker.convert_tokens_to_ids(token)
            assert row.input_ids.count(number) == expected.input_ids.count(number)
        assert target == "a<|end|>b"
        assert "Who is <|end|></s> <s>?" in prompt
        assert (
            talker.decode(row.input_ids[row.target_start : row.target_end], skip_special_tokens=True).strip() == target
        )
        assert "<|start|>" in learned(talker, row)


CALL = {"id": "0", "type": "function", "function": {"name": "weather", "arguments": '{"town": "Rome"}'}}


class TestTools:
    def test_tools_and_calls_are_written(self, talker: Any) -> None:
        tools = [{"type": "function", "function": {"name": "weather", "description": None}}]
        messages = [user("Rain?"), assistant(None, tool_calls=[CALL])]
        row, prompt, target = written(talker, TOOLS, messages, tools)
        assert '"name": "weather"' in prompt
        assert target == '<|call|>weather {"town": "Rome"}'
        assert learned(talker, row) == '<|call|>weather {"town": "Rome"}<|end|>\n'
        assert row.input_ids.count(talker.convert_tokens_to_ids("<|call|>")) == 1, "the template's own"

    def test_what_a_tool_said_is_read_and_its_call_learned(self, talker: Any) -> None:
        messages = [user("Rain?"), assistant(None, tool_calls=[CALL]), {"role": "tool", "content": "12"}]
        row, _, _ = written(talker, TOOLS, [*messages, assistant("12 degrees")])
        assert learned(talker, row) == '<|call|>weather {"town": "Rome"}<|end|>\n12 degrees<|end|>\n'

    def test_they_may_be_written_as_json(self, talker: Any) -> None:
        tools = [{"name": "weather"}]
        assert written(talker, TOOLS, json.dumps(ASKED), json.dumps(tools)) == written(talker, TOOLS, ASKED, tools)

    @pytest.mark.parametrize("none", [None, [], "", "[]"])
    def test_none(self, none: Any, talker: Any) -> None:
        assert written(talker, TURNS, ASKED, none)[2] == "Ada"

    def test_a_template_that_leaves_them_out(self, talker: Any) -> None:
        assert reason(talker, TURNS, ASKED, [{"name": "x"}]).startswith("the chat template writes no tools;")
        messages = [user("Rain?"), assistant(None, tool_calls=[CALL])]
        assert reason(talker, TURNS, messages).startswith("the chat template writes no calls of tools;")
        assert reason(talker, TOOLS, ASKED, "weather") == "tools: a text that is no JSON; allowed: a list"
        assert reason(talker, TOOLS, ASKED, {"name": "x"}) == "tools: got a dict; allowed: a list of tools"


class TestShapes:
    @pytest.mark.parametrize("template", [TURNS, PARTS], ids=["turns", "parts"])
    def test_parts_of_text(self, template: str, talker: Any) -> None:
        whole = written(talker, template, ASKED)
        parts = [{"type": "text", "text": "Who lives "}, {"type": "text", "text": "in Rome?"}]
        assert written(talker, template, [user(parts), assistant([{"type": "text", "text": "Ada"}])]) == whole

    def test_from_and_value(self, talker: Any) -> None:
        given = [{"from": "human", "value": "Who lives in Rome?"}, {"from": "gpt", "value": "Ada"}]
        assert written(talker, TURNS, given) == written(talker, TURNS, ASKED)
        system = [{"from": "system", "value": "Be kind."}, *given]
        assert written(talker, TURNS, system)[1].startswith("<|start|>system\nBe kind.<|end|>")

    def test_nulls_of_a_table_are_left_out(self, talker: Any) -> None:
        given = [{**message, "name": None, "tool_calls": None} for message in ASKED]
        assert written(talker, TOOLS, given) == written(talker, TOOLS, ASKED)

    def test_what_shows_nothing_is_left_out(self, talker: Any) -> None:
        assert written(talker, TURNS, [user("\ufeffWho?"), assistant("A\u200bda")])[1:] == (
            "<|start|>user\nWho?<|end|>\n<|start|>assistant\n", "Ada"
        )  # fmt: skip


class TestWhatCannotBeUsed:
    def test_a_template_that_opens_a_thought_it_does_not_write(self, talker: Any) -> None:
        found = reason(talker, OPENING, ASKED)
        assert found.startswith(
            "the chat template asks for an answer with '<|start|>assistant\\n<think>\\n', and does not"
        )

    def test_a_role_that_the_template_refuses(self, talker: Any) -> None:
        messages = [{"role": "system", "content": "Be kind."}, *ASKED]
        assert reason(talker, TRIMMING, messages) == "the chat template refuses the messages: System role not supported"

    @pytest.mark.parametrize(
        "template", ["{{ messages[0]['content'] + 7 }}", "{% for %}", "{{ 1 / 0 }}", "{{ messages[9].content.x }}"]
    )
    def test_whatever_goes_wrong_in_a_template(self, template: str, talker: Any) -> None:
        assert reason(talker, template, ASKED).startswith("the chat template refuses the messages: ")

    def test_a_message_that_the_template_leaves_out(self, talker: Any) -> None:
        template = TURNS.replace("messages %}", "messages if m['role'] != 'system' %}", 1)
        messages = [{"role": "system", "content": "Be kind."}, *ASKED]
        assert reason(talker, template, messages) == "the chat template leaves out what 'system' says"

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (
                [{"type": "image_url", "image_url": {}}],
                "messages: a part of type 'image_url'; only text can be learned",
            ),
            ([{"type": "text"}], "messages: a part of type 'text'; only text can be learned"),
            ([7], "messages: a part of type 'int'; only text can be learned"),
            (None, "messages: one without role or text"),
            (7, "messages: one without role or text"),
        ],
    )
    def test_a_content_that_is_no_text(self, content: Any, said: str, talker: Any) -> None:
        assert reason(talker, TURNS, [user(content), assistant("Ada")]) == said


def test_a_list_of_texts_is_what_two_say_in_turn() -> None:
    said = read_messages(["How?", "So.", "And?", "Thus."])
    assert [(message["role"], message["content"]) for message in said] == [
        ("user", "How?"), ("assistant", "So."), ("user", "And?"), ("assistant", "Thus."),
    ]  # fmt: skip
