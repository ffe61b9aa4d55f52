from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as t
from peft import get_peft_config, get_peft_model

from knowtune.answering import greedy_answers
from knowtune.base import Base
from knowtune.encoding import encode_texts

from .helpers import fact_rows

PROMPTS = [*fact_rows()["prompt"], "The", "Where does Ada live, and who is Bob"]


def passes(model: Any) -> list[int]:
    """Record how many rows each pass of the model takes."""
    taken: list[int] = []
    embedding = model.get_input_embeddings()
    embedding.register_forward_hook(lambda module, given, output: taken.append(len(output)))
    return taken


class TestGreedyAnswers:
    def test_batched_equals_one_by_one(self, base: Base, tokenizer: Any) -> None:
        model, prompts = base.model(), PROMPTS
        one = greedy_answers(model, tokenizer, prompts, 1, 6)
        assert greedy_answers(model, tokenizer, prompts, 7, 6) == one
        assert greedy_answers(model, tokenizer, prompts, 100, 6) == one
        assert len(set(one)) > 3

    def test_an_answer_is_a_hand_loop_over_the_first_choices(self, base: Base, tokenizer: Any) -> None:
        model, prompts = base.model(), fact_rows()["prompt"].tolist()
        expected = []
        for prompt in prompts:
            ids = encode_texts(tokenizer, [prompt.rstrip(" ")], 64)[0]
            start = len(ids)
            while len(ids) < start + 5 and ids[-1] != tokenizer.eos_token_id:
                with torch.inference_mode():
                    ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            expected.append(tokenizer.decode(ids[start:], skip_special_tokens=True).strip())
        assert greedy_answers(model, tokenizer, prompts, 8, 5) == expected

    def test_no_prompts(self, base: Base, tokenizer: Any) -> None:
        assert greedy_answers(base.model(), tokenizer, [], 8, 5) == []

    def test_each_prompt_has_an_end_of_its_own(self, base: Base, tokenizer: Any) -> None:
        model, prompts = base.model(), ["Ada", "The hat of", "Bob lives in", "x", "Ada"]
        ends = [1, 6, 3, 4, 5]
        alone = [greedy_answers(model, tokenizer, [p], 1, end)[0] for p, end in zip(prompts, ends, strict=True)]
        for size in (1, 2, 5):
            assert greedy_answers(model, tokenizer, prompts, size, ends) == alone
        assert alone[4].startswith(alone[0])
        assert len(alone[4]) > len(alone[0])

    def test_equal_prompts_are_asked_once_and_no_longer_than_needed(self, base: Base, tokenizer: Any) -> None:
        model, asked = base.model(), []
        generate = model.generate
        model.generate = lambda **given: asked.append(given) or generate(**given)  # type: ignore[func-returns-value]
        greedy_answers(model, tokenizer, ["Ada", "Bob", "Ada ", "Ada"], 8, [1, 1, 3, 2])
        assert [len(given["input_ids"]) for given in asked] == [2]
        assert asked[0]["max_new_tokens"] == 3
        calls = []
        hook = model.register_forward_hook(lambda *_: calls.append(1))
        greedy_answers(model, tokenizer, ["The hat of Ada is", "The"], 8, 2)
        hook.remove()
        assert len(calls) == 2, "one pass a token"

    def test_a_model_in_training_mode_answers_as_it_is(self, base: Base, tokenizer: Any) -> None:
        model, prompts = base.model(), fact_rows()["prompt"].tolist()
        expected = greedy_answers(model, tokenizer, prompts, 8, 4)
        for layer in model.model.layers:  # type: ignore[union-attr]
            layer.mlp.act_fn = torch.nn.Sequential(layer.mlp.act_fn, torch.nn.Dropout(0.9))  # type: ignore[union-attr]
        assert greedy_answers(model.train(), tokenizer, prompts, 8, 4) == expected

    def test_rows_that_have_ended_are_left_out_of_later_passes(self, base: Base, tokenizer: Any) -> None:
        model = base.model()
        taken = passes(model)
        greedy_answers(model, tokenizer, ["Ada", "Bob", "Cleo", "Dan"], 4, [1, 6, 2, 6])
        assert taken[:3] == [4, 3, 2]
        assert max(taken[3:], default=0) <= 2
        assert len(taken) <= 6

    def test_few_rows_that_have_ended_are_carried_on_without_a_trace(self, base: Base, tokenizer: Any) -> None:
        model, prompts = base.model(), [f"{name} lives" for name in ("Ada", "Bob", "Cleo", "Dan", "Eve")]
        alone = [greedy_answers(model, tokenizer, [p], 1, n)[0] for p, n in zip(prompts, (1, 5, 5, 5, 5), strict=True)]
        taken = passes(model)
        assert greedy_answers(model, tokenizer, prompts, 5, [1, 5, 5, 5, 5]) == alone
        assert taken[:2] == [5, 5], "one of five is less than a quarter"


def gpt2() -> Any:
    return t.GPT2LMHeadModel(t.GPT2Config(vocab_size=320, n_embd=32, n_layer=2, n_head=2, n_positions=64))


def sliding() -> Any:
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return t.MistralForCausalLM(t.MistralConfig(vocab_size=320, **size, num_key_value_heads=1, sliding_window=4))


def recurrent() -> Any:
    return t.MambaForCausalLM(t.MambaConfig(vocab_size=320, hidden_size=32, num_hidden_layers=2))


def hybrid() -> Any:
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    layers = ["conv", "full_attention"]
    return t.Lfm2ForCausalLM(t.Lfm2Config(vocab_size=320, **size, num_key_value_heads=1, layer_types=layers))


def by_generate(model: Any, tokenizer: Any, prompt: str, end: int) -> list[int]:
    ids = torch.tensor(encode_texts(tokenizer, [prompt.rstrip(" ")], 64))
    written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=end, do_sample=False)
    return [int(token) for token in written[0, ids.shape[1] :]]


@pytest.mark.parametrize("make", [gpt2, sliding, recurrent, hybrid], ids=lambda make: make.__name__)
def test_other_architectures_write_what_generate_does(make: Any, tokenizer: Any) -> None:
    torch.manual_seed(1)
    model, ends = make().eval(), [1 + i % 6 for i in range(len(PROMPTS))]
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = None
    endless = [token for prompt in PROMPTS for token in by_generate(model, tokenizer, prompt, 6)[1:5]]
    model.generation_config.eos_token_id = max(set(endless), key=endless.count)  # so that some stop by themselves
    expected = [by_generate(model, tokenizer, prompt, end) for prompt, end in zip(PROMPTS, ends, strict=True)]
    assert any(len(written) < end for written, end in zip(expected, ends, strict=True))
    texts = [text.strip() for text in tokenizer.batch_decode(expected, skip_special_tokens=True)]
    assert greedy_answers(model, tokenizer, PROMPTS, 7, ends) == texts


@pytest.mark.parametrize("make", [recurrent, hybrid], ids=lambda make: make.__name__)
def test_recurrent_states_keep_all_their_rows(make: Any, tokenizer: Any) -> None:
    model = make().eval()
    taken = passes(model)
    greedy_answers(model, tokenizer, ["Ada", "Bob"], 2, [1, 4])
    assert set(taken) == {2}


@pytest.mark.filterwarnings("ignore:Position ids are not supported")  # PEFT's, for any prompt that it goes before
@pytest.mark.parametrize("kind", ["LORA", "PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING"])
def test_adapters_answer_in_a_batch_as_alone(kind: str, base: Base, tokenizer: Any) -> None:
    options = {"r": 4, "init_lora_weights": False} if kind == "LORA" else {"num_virtual_tokens": 3}
    torch.manual_seed(0)
    config = get_peft_config({"peft_type": kind, "task_type": "CAUSAL_LM", **options})
    model: Any = get_peft_model(base.model(), config).eval()
    ends = [1 + i % 6 for i in range(len(PROMPTS))]
    alone = [greedy_answers(model, tokenizer, [p], 1, end)[0] for p, end in zip(PROMPTS, ends, strict=True)]
    assert greedy_answers(model, tokenizer, PROMPTS, 7, ends) == alone
    assert alone != greedy_answers(base.model(), tokenizer, PROMPTS, 7, ends)


def test_a_tokenizer_without_a_padding_token_leaves_no_tail(base: Base, tokenizer: Any) -> None:
    expected = greedy_answers(base.model(), tokenizer, PROMPTS, 7, 6)
    bare = t.PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, bos_token="<s>", eos_token="</s>")
    assert bare.pad_token_id is None
    assert greedy_answers(base.model(), bare, PROMPTS, 7, 6) == expected
    assert len({len(answer) for answer in expected}) > 1
