from __future__ import annotations

import copy
from typing import Any

import pandas as pd
import pytest

from knowtune.data.column_mapping import reader_for
from knowtune.data.raw import Reading
from knowtune.tasks.regression import Regression
from knowtune.text.cell_paths import MissingColumnError
from knowtune.text.encode_rows import encode_rows
from tests.unit.helpers import REVIEWS, TASK

PROMPT: dict[str, Any] = {
    "id": None, "fact": None, "relation": None, "subject": None, "template": None, "prompt": "q", "target": "a"
}  # fmt: skip
CHAT = {**{k: v for k, v in PROMPT.items() if k not in ("prompt", "target")}, "messages": "chat"}
LABEL: dict[str, Any] = {"id": None, "text": "t", "text_pair": None, "label": "y"}
# As chat models have it; the second begins with the start token, as Llama's do.
PLAIN_TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
TEMPLATES = {"plain": PLAIN_TEMPLATE, "with its own start": "{{ bos_token }}" + PLAIN_TEMPLATE}
STRICT_TEMPLATE = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system message, please') }}{% endif %}"
    + PLAIN_TEMPLATE
)


def said(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


@pytest.fixture
def talker(tokenizer: Any) -> Any:
    """A tokenizer of one's own, to give a chat template."""
    return copy.deepcopy(tokenizer)


def prompted(record: dict[str, Any], tokenizer: Any = None, **columns: Any) -> tuple[dict[str, str], str]:
    return alone(reader_for({**PROMPT, **columns}, TASK, tokenizer)(record))


def alone(readings: list[Reading]) -> tuple[dict[str, str], str]:
    """Cells and reason of a record's only row, which is for what its file is for."""
    assert [(reading.role, reading.part) for reading in readings] == [(None, "")]
    return readings[0].cells, readings[0].reason


class TestPrompts:
    def test_a_plain_prompt_gets_a_blank_for_the_target_to_follow(self) -> None:
        cells, reason = prompted({"q": "The capital of Chile is", "a": "Santiago"})
        assert cells == {
            "fact": "", "relation": "", "subject": "", "template": "", "prompt": "The capital of Chile is ",
            "text_pair": "", "target": "Santiago", "aliases": "", "layout": "", "old": "",
        }  # fmt: skip
        assert reason == ""

    @pytest.mark.parametrize(
        ("prompt", "target"),
        [
            ("### Instruction:\nName it.\n\n### Response:\n", "Lima"),
            ("def f():", "\n    return 1\n"),
            ("  The capital is ", " Lima "),
            ("Is", "\tso "),
            ("中国的首都是", "北京"),
            ("", "x"),
        ],
    )
    def test_cells_are_kept_as_written(self, prompt: str, target: str) -> None:
        cells, _ = prompted({"q": prompt, "a": target})
        assert (cells["prompt"], cells["target"]) == (prompt, target)

    def test_what_shows_nothing_is_left_out(self) -> None:
        cells, _ = prompted({"q": "\ufeffThe cap\u200bital is", "a": ["Li\u00adma", "\u200bLIMA"]})
        assert (cells["prompt"], cells["target"], cells["aliases"]) == ("The capital is ", "Lima", "LIMA")

    def test_a_template_stands_for_itself_with_every_blank(self) -> None:
        record = {"question": " Who? ", "n": 3, "answer": "\tAda"}
        cells, _ = prompted(record, prompt="Q{n}: {question}\nA:", target="{answer}, of course ")
        assert (cells["prompt"], cells["target"]) == ("Q3:  Who? \nA:", "\tAda, of course ")

    def test_control_tokens_are_meant_in_a_template_and_text_in_cells(self, tokenizer: Any) -> None:
        record = {"q": "Who is </s> <s>?", "a": "</s>Ada"}
        cells, _ = prompted(record, tokenizer, prompt="<s>{q}</s> and {q} ", target="{a}!</s>\n")
        assert (cells["prompt"], cells["target"]) == ("<s>Who is </s> <s>?</s> and Who is </s> <s>? ", "</s>Ada!")
        row = encode_rows(tokenizer, [cells["prompt"]], [cells["target"]], [cells["layout"]])[0]
        assert (row.input_ids.count(tokenizer.bos_token_id), row.input_ids[0]) == (1, tokenizer.bos_token_id)
        learned = [token for token in row.labels if token != -100]
        assert row.input_ids.count(tokenizer.eos_token_id) == 2, "the template's two, and no third"
        assert learned.index(tokenizer.eos_token_id) > 3
        assert tokenizer.decode(learned) == " </s>Ada!</s>\n"

    def test_a_template_without_control_tokens_is_plain(self, tokenizer: Any) -> None:
        assert prompted({"q": "<s>", "a": "</s>"}, tokenizer, prompt="Q: {q} ", target="{a}.")[0]["layout"] == ""

    def test_braces_of_a_cell_are_no_template(self) -> None:
        assert prompted({"q": "{a}", "a": "x"}, prompt="{q} ")[0]["prompt"] == "{a} "

    def test_written_braces_are_doubled(self) -> None:
        assert prompted({"q": "x", "a": "y"}, prompt="{{{q}}} ")[0]["prompt"] == "{x} "

    @pytest.mark.parametrize("target", ["a", "{a}"])
    def test_a_cell_that_is_missing_is_an_empty_target(self, target: str) -> None:
        for nothing in (None, float("nan"), "", "  "):
            assert prompted({"q": "x", "a": nothing}, target=target)[0]["target"] == ""

    def test_numbers_are_text(self) -> None:
        assert prompted({"q": 7, "a": 1.5})[0]["prompt"] == "7 "
        assert prompted({"q": 7, "a": 1.5})[0]["target"] == "1.5"

    def test_a_list_of_targets(self) -> None:
        record = {"q": "x", "a": ["Big Apple", "NYC", None, "Big Apple", "", "New York"]}
        cells, reason = prompted(record)
        assert (cells["target"], cells["aliases"], reason) == ("Big Apple", "NYC\nNew York", "")

    @pytest.mark.parametrize("answers", [[], [None], [""]])
    def test_a_list_without_an_answer(self, answers: list[Any]) -> None:
        cells, reason = prompted({"q": "x", "a": answers})
        assert (cells["target"], cells["aliases"], reason) == ("", "", "")

    def test_a_target_may_have_lines_but_a_further_answer_may_not(self) -> None:
        cells, reason = prompted({"q": "x", "a": ["one\ntwo", "three"]})
        assert (cells["target"], cells["aliases"], reason) == ("one\ntwo", "three", "")
        assert prompted({"q": "x", "a": ["one", "two\nthree"]})[1] == "a further right answer has a line break"

    def test_what_is_said_about_the_fact(self) -> None:
        record = {"q": "x", "a": "y", "rel": "town", "who": " Ada ", "w": 2}
        cells, _ = prompted(record, fact=["rel", "who"], relation="rel", subject="who", template="w")
        found = [cells[name] for name in ("fact", "relation", "subject", "template")]
        assert found == ["town:Ada", "town", "Ada", "2"]
        assert prompted(record, fact="who")[0]["fact"] == "Ada"

    @pytest.mark.parametrize("cell", [["x"], {"text": ["x"]}])
    @pytest.mark.parametrize("columns", [{"prompt": "c"}, {"prompt": "{c} "}, {"target": "{c}"}, {"fact": "c"}])
    def test_a_list_or_mapping_is_no_text(self, cell: Any, columns: dict[str, Any]) -> None:
        with pytest.raises(ValueError) as caught:
            prompted({"q": "x", "a": "y", "c": cell}, **columns)
        assert str(caught.value).endswith(f"c: got a {type(cell).__name__}; allowed: text or a number")

    def test_a_target_that_is_a_mapping_names_its_column(self) -> None:
        with pytest.raises(ValueError, match=r"^a: got a dict; allowed: a text, or a list of texts$"):
            prompted({"q": "x", "a": {"text": ["Ada"], "answer_start": [0]}})

    @pytest.mark.parametrize(
        "columns", [{"prompt": "zzz"}, {"prompt": "{zzz} "}, {"target": "zzz"}, {"fact": "zzz"}, {"subject": "zzz"}]
    )
    def test_a_column_that_is_not_there(self, columns: dict[str, Any]) -> None:
        with pytest.raises(MissingColumnError, match=r"^zzz$"):
            prompted({"q": "x", "a": "y"}, **columns)


class TestChats:
    def read(self, tokenizer: Any, messages: Any, template: str = PLAIN_TEMPLATE) -> tuple[dict[str, str], str]:
        tokenizer.chat_template = template
        return alone(reader_for(CHAT, TASK, tokenizer)({"chat": messages}))

    @pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
    def test_the_last_message_is_the_target(self, talker: Any, template: str) -> None:
        messages = [said("system", "Be kind."), said("user", "Who lives in Rome?"), said("assistant", " Ada ")]
        cells, reason = self.read(talker, messages, template)
        start = "<s>" if template.startswith("{{ bos") else ""
        assert reason == ""
        assert cells["prompt"] == start + "[system] Be kind.\n[user] Who lives in Rome?\n[assistant] "
        assert (cells["target"], cells["aliases"]) == (" Ada ", "")

    @pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
    def test_a_row_reads_as_the_template_writes_the_whole_chat(self, talker: Any, template: str) -> None:
        messages = [said("user", "Who lives in Rome?"), said("assistant", "Ada")]
        cells, _ = self.read(talker, messages, template)
        row = encode_rows(talker, [cells["prompt"]], [cells["target"]], [cells["layout"]])[0]
        assert row.input_ids == talker.apply_chat_template(messages, return_dict=False)
        assert talker.decode(row.input_ids[row.target_start : row.target_end]).strip() == "Ada"

    @pytest.mark.parametrize(
        ("messages", "reason"),
        [
            (None, "messages: fewer than two"),
            ("Hi", "messages: a text that is no JSON; allowed: a list"),
            ([], "messages: fewer than two"),
            ([said("assistant", "Hi")], "messages: fewer than two"),
            ([said("user", "Hi"), said("user", "Hm?")], "messages: the last is by 'user', not by 'assistant'"),
            ([said("user", "Hi"), {"content": "Ho"}], "messages: one without role or text"),
            ([said("user", "Hi"), said("assistant", None)], "messages: one without role or text"),
            (
                [said("user", [{"type": "image"}]), said("assistant", "A dog")],
                "messages: a part of type 'image'; only text can be learned",
            ),
            (["Hi", said("assistant", "Ho")], "messages: one without role or text"),
        ],
    )
    def test_why_a_chat_cannot_be_used(self, talker: Any, messages: Any, reason: str) -> None:
        cells, found = self.read(talker, messages)
        assert found == reason
        assert (cells["prompt"], cells["target"]) == ("", "")

    def test_a_chat_that_the_template_refuses(self, talker: Any) -> None:
        messages = [said("system", "x"), said("user", "Hi"), said("assistant", "Ho")]
        assert self.read(talker, messages, STRICT_TEMPLATE)[1] == (
            "the chat template refuses the messages: no system message, please"
        )
        assert self.read(talker, messages[1:], STRICT_TEMPLATE)[1] == ""

    def test_a_tokenizer_without_a_template_is_a_fault_of_the_file(self, tokenizer: Any) -> None:
        with pytest.raises(ValueError, match="the base's tokenizer has no chat template; take a chat model, or map"):
            reader_for(CHAT, TASK, tokenizer)({"chat": [said("user", "Hi"), said("assistant", "Ho")]})

    def test_tools_stand_beside_the_messages(self, talker: Any) -> None:
        talker.chat_template = "{% if tools %}{{ tools | tojson }}\n{% endif %}" + PLAIN_TEMPLATE
        record = {"chat": [said("user", "Hi"), said("assistant", "Ho")], "tools": [{"name": "clock"}], "t": "[]"}
        assert alone(reader_for(CHAT, TASK, talker)(record))[0]["prompt"].startswith('[{"name": "clock"}]\n')
        assert alone(reader_for({**CHAT, "tools": "t"}, TASK, talker)(record))[0]["prompt"].startswith("[user]")
        with pytest.raises(MissingColumnError, match=r"^zzz$"):
            reader_for({**CHAT, "tools": "zzz"}, TASK, talker)(record)

    @pytest.mark.parametrize("completion", [[said("assistant", "Ada")], "Ada"])
    def test_prompt_and_completion_are_a_chat(self, talker: Any, completion: Any) -> None:
        talker.chat_template = PLAIN_TEMPLATE
        prompt = [said("user", "Who?"), said("assistant", "Bob"), said("user", "Sure?")]
        record = {"q": prompt, "a": completion}
        asked, _ = prompted(record, talker)
        whole, _ = self.read(talker, [*prompt, said("assistant", "Ada")])
        assert (asked["prompt"], asked["target"]) == (whole["prompt"], whole["target"])
        assert ("turns" in whole["layout"], "turns" in asked["layout"]) == (True, False), "the completion is learned"

    def test_a_column_that_is_not_there(self, talker: Any) -> None:
        with pytest.raises(MissingColumnError, match=r"^chat$"):
            reader_for(CHAT, TASK, talker)({"messages": []})


class TestLabels:
    def read(self, record: dict[str, Any], task: Any = REVIEWS, **columns: Any) -> dict[str, str]:
        cells, reason = alone(reader_for({**LABEL, **columns}, task, None)(record))  # type: ignore[arg-type]
        assert reason == ""
        return cells

    def test_text_and_label(self) -> None:
        cells = self.read({"t": " a film\n", "y": 1})
        assert (cells["prompt"], cells["text_pair"], cells["target"]) == (" a film\n", "", "good")

    def test_two_texts(self) -> None:
        cells = self.read({"t": "a film", "u": " another ", "y": "bad"}, text_pair="u")
        assert (cells["prompt"], cells["text_pair"], cells["target"]) == ("a film", " another ", "bad")

    def test_control_tokens_of_a_template_are_meant(self, words: Any) -> None:
        mapped = {**LABEL, "text": "{t} [SEP] {u}"}
        cells, _ = alone(reader_for(mapped, REVIEWS, words)({"t": "a [SEP] film", "u": "good", "y": 1}))
        row = REVIEWS.encode(words, pd.DataFrame([cells]))[0]
        assert row.input_ids.count(words.sep_token_id) == 2, "the template's and the end's"

    def test_templates(self) -> None:
        record = {"title": "X", "t": "fun", "y": 0}
        cells = self.read(record, text="{title}: {t}", text_pair="about {title}")
        assert (cells["prompt"], cells["text_pair"]) == ("X: fun", "about X")

    def test_no_label_is_an_empty_target(self) -> None:
        assert [self.read({"t": "x", "y": none})["target"] for none in (None, "", float("nan"))] == [""] * 3

    def test_a_label_that_the_task_does_not_have_names_its_column(self) -> None:
        with pytest.raises(ValueError, match=r"^y: got 7; allowed: 0 or 'bad', 1 or 'good' \(task\.labels\)$"):
            self.read({"t": "x", "y": 7})

    def test_scores(self) -> None:
        assert self.read({"t": "x", "y": "2.50"}, Regression())["target"] == "2.5"
        with pytest.raises(ValueError, match=r"^y: got 'high'; allowed: a number such as 3\.5$"):
            self.read({"t": "x", "y": "high"}, Regression())

    @pytest.mark.parametrize("columns", [{"text": "zzz"}, {"label": "zzz"}, {"text_pair": "zzz"}, {"text": "{zzz}"}])
    def test_a_column_that_is_not_there(self, columns: dict[str, Any]) -> None:
        with pytest.raises(MissingColumnError, match=r"^zzz$"):
            self.read({"t": "x", "y": 1}, **columns)
