from __future__ import annotations

import copy
import functools
import inspect
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t
from peft import get_peft_config, get_peft_model

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.common.files import read_json, write_json
from knowtune.models.generate import greedy_answers
from knowtune.models.hidden_states import end_ids, room
from knowtune.text.encode_rows import encode_prompts, encode_texts
from knowtune.text.layout import Layout
from tests.unit.helpers import fact_rows

PROMPTS = [*fact_rows()["prompt"], "The", "Where does Ada live, and who is Bob"]


def joined(prompt: str, written: str) -> str:
    """Leave out as many blanks before an answer as its prompt has at its end."""
    for _ in range(len(prompt) - len(prompt.rstrip(" "))):
        written = written.removeprefix(" ")
    return written


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
            expected.append(joined(prompt, tokenizer.decode(ids[start:], skip_special_tokens=True)))
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
        greedy_answers(model, tokenizer, ["The hat", "The hat "], 8, 2)
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

    @pytest.mark.parametrize("name", ["past_key_values", "cache"])
    def test_rows_are_left_out_whatever_a_version_names_the_cache(self, name: str, base: Base, tokenizer: Any) -> None:
        """transformers 5.24 names it `cache`; the name that the installed version does not use stands in its place."""
        model: Any = base.model()
        prepare, update = model.prepare_inputs_for_generation, model._update_model_kwargs_for_generation
        own = next(n for n in ("cache", "past_key_values") if n in inspect.signature(prepare).parameters)

        def renamed(given: dict[str, Any], old: str, new: str) -> dict[str, Any]:
            return {new if key == old else key: value for key, value in given.items()}

        @functools.wraps(prepare)  # `generate` reads the signature
        def prepare_renamed(ids: torch.Tensor, **given: Any) -> dict[str, Any]:
            prepared: dict[str, Any] = prepare(ids, **renamed(given, name, own))
            return prepared

        model.prepare_inputs_for_generation = prepare_renamed
        model._update_model_kwargs_for_generation = lambda output, given: renamed(update(output, given), own, name)
        taken = passes(model)
        greedy_answers(model, tokenizer, ["Ada", "Bob", "Cleo", "Dan"], 4, [1, 6, 2, 6])
        assert taken[:3] == [4, 3, 2]

    def test_few_rows_that_have_ended_are_carried_on_without_a_trace(self, base: Base, tokenizer: Any) -> None:
        model, prompts = base.model(), [f"{name} lives" for name in ("Ada", "Bob", "Cleo", "Dan", "Eve")]
        alone = [greedy_answers(model, tokenizer, [p], 1, n)[0] for p, n in zip(prompts, (1, 5, 5, 5, 5), strict=True)]
        taken = passes(model)
        assert greedy_answers(model, tokenizer, prompts, 5, [1, 5, 5, 5, 5]) == alone
        tried = 3  # passes of two rows, two rows and one, on which padding is tried out
        assert taken[:tried] == [2, 2, 1]
        assert taken[tried : tried + 2] == [5, 5], "one of five is less than a quarter"


SETTINGS: list[dict[str, Any]] = [
    {"repetition_penalty": 1.3},
    {"encoder_repetition_penalty": 1.3},
    {"num_beams": 4},
    {"num_beams": 4, "num_return_sequences": 2, "length_penalty": -5.0, "early_stopping": True},
    {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 2.0},
    {"penalty_alpha": 0.6, "top_k": 4},
    {"stop_strings": ["e"]},
    {"no_repeat_ngram_size": 1},
    {"encoder_no_repeat_ngram_size": 1},
    {"min_length": 60},
    {"min_new_tokens": 5},
    {"max_length": 4},
    {"max_new_tokens": 1},
    {"max_time": 0.0},
    {"forced_bos_token_id": 7},
    {"forced_eos_token_id": 7},
    {"bad_words_ids": [[260], [261], [40]]},
    {"suppress_tokens": list(range(4, 200))},
    {"begin_suppress_tokens": list(range(4, 300))},
    {"sequence_bias": [[[300], 50.0]]},
    {"do_sample": True, "temperature": 5.0, "top_p": 0.9, "min_p": 0.01, "typical_p": 0.5, "epsilon_cutoff": 0.1},
    {"temperature": 0.3},
    {"temperature": -1.0, "do_sample": "yes"},
    {"exponential_decay_length_penalty": [1, 5.0]},
    {"guidance_scale": 3.0},
    {"watermarking_config": {"greenlist_ratio": 0.25, "bias": 9.0, "seeding_scheme": "selfhash"}},
    {"cache_implementation": "static"},
    {"cache_implementation": "quantized"},
    {"use_cache": False},
    {"prompt_lookup_num_tokens": 3},
    {"dola_layers": "high"},
    {"token_healing": True},
    {"return_dict_in_generate": True, "output_scores": True, "output_attentions": True},
    {"renormalize_logits": True, "remove_invalid_values": True, "bos_token_id": 5, "pad_token_id": 6},
    {"transformers_version": 4, "unknown": {"a": 1}},
]


@pytest.fixture(scope="module")
def plain(base: Base, tokenizer: Any) -> list[str]:
    return greedy_answers(base.model(), tokenizer, PROMPTS, 7, 6)


class TestSettings:
    """Whatever a checkpoint's settings say: what is judged right is just what is written."""

    @pytest.mark.parametrize("name", ["generation_config.json", "config.json"])
    @pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(s))
    def test_they_change_no_answer(
        self, settings: dict[str, Any], name: str, base: Base, plain: list[str], tmp_path: Path
    ) -> None:
        folder = tmp_path / "copy"
        shutil.copytree(base.folder, folder)
        if name == "config.json":
            (folder / "generation_config.json").unlink()
        write_json(folder / name, {**read_json(base.folder / name), **settings})
        copy = replace(base, folder=folder)
        model, tokenizer, rows = copy.model(), copy.tokenizer(), fact_rows()
        assert greedy_answers(model, tokenizer, PROMPTS, 7, 6) == plain
        judged = base.task.evaluator.judge(model, tokenizer, rows, 8, "x")
        limits = [len(tokenizer(" " + target)["input_ids"]) for target in rows["target"]]
        answers = greedy_answers(model, tokenizer, rows["prompt"].tolist(), 8, limits)
        assert judged["correct"].tolist() == [one == right for one, right in zip(answers, rows["target"], strict=True)]
        assert 0 < judged["correct"].sum() < len(rows)
        model.save_pretrained(tmp_path / "saved")  # as a merged model is: no setting stands in its way

    def test_a_model_from_elsewhere_is_asked_plainly_and_left_as_it_is(self, base: Base, plain: list[str]) -> None:
        model, tokenizer = base.model(), base.tokenizer()
        settings = t.GenerationConfig(eos_token_id=1, repetition_penalty=1.5, num_beams=3)
        model.generation_config = settings
        assert greedy_answers(model, tokenizer, PROMPTS, 7, 6) == plain
        assert model.generation_config is settings
        wrapped: Any = get_peft_model(model, get_peft_config({"peft_type": "LORA", "task_type": "CAUSAL_LM"}))
        assert greedy_answers(wrapped, tokenizer, PROMPTS, 7, 6) == plain

    @pytest.mark.parametrize("text", ["{", "[]"])
    def test_a_broken_file(self, text: str, base: Base, tmp_path: Path) -> None:
        shutil.copytree(base.folder, tmp_path / "copy")
        (tmp_path / "copy" / "generation_config.json").write_text(text)
        with pytest.raises(UserError, match=r"copy/generation_config\.json: (not readable as JSON|got a list)"):
            replace(base, folder=tmp_path / "copy").model()

    @pytest.mark.parametrize("name", ["generation_config.json", "config.json"])
    def test_answers_end_at_the_end_tokens_of_every_file(
        self, name: str, base: Base, plain: list[str], tmp_path: Path
    ) -> None:
        tokenizer, folder = base.tokenizer(), tmp_path / "copy"
        asked = [(prompt, answer) for prompt, answer in zip(PROMPTS, plain, strict=True) if " " in answer.strip()]
        prompt, answer = asked[0]
        written = tokenizer(f" {answer.strip()}")["input_ids"]
        shutil.copytree(base.folder, folder)
        write_json(folder / name, {**read_json(folder / name), "eos_token_id": [1, written[1]]})
        copy = replace(base, folder=folder)
        model = copy.model()
        assert end_ids(model, copy.tokenizer()) == sorted({1, written[1]})
        found = greedy_answers(model, copy.tokenizer(), [prompt], 1, 6)
        assert found == [joined(prompt, tokenizer.decode(written[:2]))]

    def test_a_target_that_decoding_would_end_in_is_not_right(self, base: Base, tmp_path: Path) -> None:
        """An end token within the target: the pass says right, decoding writes a part."""
        tokenizer, rows, folder = base.tokenizer(), fact_rows(), tmp_path / "copy"
        right = base.task.evaluator.judge(base.model(), tokenizer, rows, 8, "x")["correct"]
        encoded = base.task.encode(tokenizer, rows)
        inner = {
            i: row.input_ids[row.target_start] for i, row in enumerate(encoded) if row.target_end - row.target_start > 1
        }
        stopped = next(token for i, token in inner.items() if right[i])
        shutil.copytree(base.folder, folder)
        write_json(folder / "generation_config.json", {"eos_token_id": [1, stopped]})
        copy = replace(base, folder=folder)
        model = copy.model()
        judged = copy.task.evaluator.judge(model, tokenizer, rows, 8, "x")["correct"]
        answers = greedy_answers(model, tokenizer, rows["prompt"].tolist(), 8, 8)
        written = [one.startswith(target) for one, target in zip(answers, rows["target"], strict=True)]
        assert judged.tolist() == written
        assert 0 < judged.sum() < right.sum()


class TestEdgeOfTheContext:
    @pytest.mark.parametrize("make", [lambda: gpt2(), lambda: opt(), lambda: sliding()])
    def test_an_answer_ends_where_the_context_does(self, make: Any, tokenizer: Any) -> None:
        torch.manual_seed(1)
        model = make().eval()
        model.generation_config.eos_token_id = None
        bare = copy.deepcopy(tokenizer)
        bare.eos_token = None
        bare.model_max_length = 64
        prompts = ["Ada " * 100, "Bob lives", "Cleo lives in a"]
        prompts[0] = bare.decode(bare(prompts[0])["input_ids"][:61]).rstrip()
        used = len(encode_texts(bare, prompts[:1], 100)[0])
        assert 60 <= used <= 63
        for size in (1, 3):
            found = greedy_answers(model, bare, prompts, size, 20)
            assert len(bare(found[0])["input_ids"]) <= 64 - used
            assert min(len(bare(answer)["input_ids"]) for answer in found[1:]) > 64 - used
        with pytest.raises(UserError) as caught:
            greedy_answers(model, bare, ["Ada " * 100], 1, 4)
        assert "tokens, and the model reads 64 at most; give a shorter one" in str(caught.value)

    def test_virtual_tokens_take_places_too(self, base: Base, tokenizer: Any) -> None:
        config = get_peft_config({"peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": 9})
        model: Any = get_peft_model(base.model(), config).eval()
        assert room(model, tokenizer) == 64 - 9
        assert room(base.model(), tokenizer) == 64
        with pytest.raises(UserError, match=r"59 tokens, and the model reads 55 at most \(9 positions of its context"):
            greedy_answers(model, tokenizer, [tokenizer.decode(tokenizer("Ada lives " * 30)["input_ids"][:58])], 1, 4)


def bart() -> Any:
    """Give a decoder that counts padding as places."""
    size = {"d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 64}
    return t.BartForCausalLM(t.BartConfig(vocab_size=320, **size, max_position_embeddings=64))


def roberta() -> Any:
    """Give a decoder whose places start after two that are never used, and not where `generate` has them start."""
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    places = {"max_position_embeddings": 66, "pad_token_id": 1, "type_vocab_size": 1}
    return t.RobertaForCausalLM(t.RobertaConfig(vocab_size=320, **size, **places, is_decoder=True))


def opt() -> Any:
    size = {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return t.OPTForCausalLM(t.OPTConfig(vocab_size=320, **size, max_position_embeddings=64, word_embed_proj_dim=32))


def bloom() -> Any:
    return t.BloomForCausalLM(t.BloomConfig(vocab_size=320, hidden_size=32, n_layer=2, n_head=2))


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
    decoded = tokenizer.batch_decode(expected, skip_special_tokens=True)
    texts = [joined(*pair) for pair in zip(PROMPTS, decoded, strict=True)]
    assert greedy_answers(model, tokenizer, PROMPTS, 7, ends) == texts


@pytest.mark.parametrize(
    "make", [gpt2, sliding, recurrent, hybrid, bart, roberta, opt, bloom], ids=lambda make: make.__name__
)
def test_what_is_written_is_the_first_choice_of_a_plain_pass(make: Any, tokenizer: Any) -> None:
    """Padding, caches and positions show in no answer: each token is what a pass over the row alone would choose."""
    torch.manual_seed(1)
    model = make().eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)  # so that positions and neighbours matter
    model.generation_config.eos_token_id = None
    expected = []
    for prompt in PROMPTS:
        ids = encode_texts(tokenizer, [prompt.rstrip(" ")], 64)[0]
        start = len(ids)
        while len(ids) < start + 5 and (len(ids) == start or ids[-1] != tokenizer.eos_token_id):
            with torch.inference_mode():
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        expected.append(joined(prompt, tokenizer.decode(ids[start:], skip_special_tokens=True)))
    assert greedy_answers(model, tokenizer, PROMPTS, 7, 5) == expected
    assert len(set(expected)) > 3


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


def writes(model: Any, tokenizer: Any, prompt: str, text: str) -> Any:
    """Let a model write the tokens of a text after a prompt, one after the other, and then the end token for ever."""
    start = len(encode_prompts(tokenizer, [prompt])[0])
    ids = [*tokenizer(prompt.rstrip(" ") + text, add_special_tokens=False)["input_ids"][start - 1 :], 1]
    place = iter([*ids, *[1] * 99])

    def say(module: Any, given: Any, output: Any) -> Any:
        output.logits[:, -1] = 0
        output.logits[:, -1, next(place)] = 9
        return output

    model.register_forward_hook(say)
    return model


class TestText:
    @pytest.mark.parametrize(
        ("prompt", "text", "answer"),
        [
            ("The hat is ", " red", "red"),
            ("The hat is ", "  red ", " red "),
            ("The hat is", " red", " red"),
            ("def f():", "\n    return red\n", "\n    return red\n"),
            ("Ada:\n", "    red", "    red"),
        ],
    )
    def test_it_is_as_written(self, prompt: str, text: str, answer: str, base: Base, tokenizer: Any) -> None:
        model = writes(base.model(), tokenizer, prompt, text)
        assert greedy_answers(model, tokenizer, [prompt], 1, 30) == [answer]

    @pytest.mark.parametrize(
        ("ending", "text", "answer"),
        [
            ("<pad>\n", " red<pad>\nBob", "red"),
            (" <pad>", " red <pad> Bob", "red"),
            ("\n", " red\nBob: red", "red"),
            ("", " red\nBob", "red\nBob"),
        ],
    )
    def test_it_ends_where_the_rows_ending_begins(
        self, ending: str, text: str, answer: str, base: Base, tokenizer: Any
    ) -> None:
        model = writes(base.model(), tokenizer, "The hat is ", text)
        layout = Layout(ending=ending).to_text()
        assert greedy_answers(model, tokenizer, ["The hat is "], 1, 30, layouts=[layout]) == [answer]

    def test_control_tokens_of_a_prompts_cells_are_text(self, base: Base, tokenizer: Any) -> None:
        model, read = base.model(), list[list[int]]()
        model.get_input_embeddings().register_forward_hook(lambda module, given, output: read.append(given[0].tolist()))
        marked = Layout(markup=((0, 4),), start=False).to_text()
        greedy_answers(model, tokenizer, ["</s>Ada </s>"], 1, 1)
        greedy_answers(model, tokenizer, ["</s>Ada </s>"], 1, 1, layouts=[marked])
        plain, meant = read[0][0], read[-1][0]
        assert tokenizer.eos_token_id not in plain
        assert plain[0] == tokenizer.bos_token_id
        assert (meant.count(tokenizer.eos_token_id), meant[0]) == (1, tokenizer.eos_token_id)
