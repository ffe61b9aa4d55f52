from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

from knowtune.checkpoints.base import Base
from knowtune.checkpoints.cards import make_card
from knowtune.common.files import read_json, write_json
from knowtune.models.checkpoint_files import end_tokens, load_tokenizer, read_config
from tests.unit.helpers import word_pieces

TEXTS = [
    "Ada lives in Rome , 12345 3.14",
    "  two  blanks\n\n\tand a line  ",
    'don\'t e-mail, "quotes" (x)!',
    "Größe café Ünïcode e\u0301",
    "汉字测试 日本語 한국어",
    "def f(x):\n    return x**2\n",
    "<s>x</s> <unk> [CLS] <|im_end|>",
    "a\u200bb \ufb01 ½ \U0001f600",
    "",
    " ",
    "\n",
]
CLASSES = sorted({*filter(None, TOKENIZER_MAPPING_NAMES.values()), "LlamaTokenizerFast", "NoSuchTokenizer"})


@pytest.fixture
def copy(base: Base, tmp_path: Path) -> Path:
    shutil.copytree(base.folder, tmp_path / "copy")
    return tmp_path / "copy"


def change(path: Path, **said: Any) -> None:
    kept = {**read_json(path), **said}
    write_json(path, {key: value for key, value in kept.items() if value is not ...})


def pieces(folder: Path) -> None:
    """Write a tokenizer as none of transformers' classes builds it, with a vocabulary that many could take."""
    letters = sorted({letter for text in TEXTS for letter in text if letter.strip()} | {"▁"})
    words = ["<unk>", "<s>", "</s>", *letters, "▁a", "in", "▁in", "▁lives"]
    merges = [("▁", "a"), ("i", "n"), ("▁", "in")]
    bpe = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=merges, unk_token="<unk>"))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.Metaspace()])
    bpe.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A </s> $B", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    bpe.add_special_tokens(["<unk>", "<s>", "</s>"])
    bpe.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})


class TestLoadTokenizer:
    @pytest.mark.parametrize("name", CLASSES)
    def test_it_is_the_file_whatever_class_is_named(self, name: str, copy: Path) -> None:
        pieces(copy)
        change(copy / "tokenizer_config.json", tokenizer_class=name)
        file, tokenizer = Tokenizer.from_file(str(copy / "tokenizer.json")), load_tokenizer(copy)
        for text in TEXTS:
            assert (
                tokenizer(text, add_special_tokens=False)["input_ids"]
                == file.encode(text, add_special_tokens=False).ids
            )
            assert tokenizer(text)["input_ids"] == file.encode(text).ids
            assert tokenizer(text, "a")["input_ids"] == file.encode(text, "a").ids
        assert tokenizer.get_vocab() == file.get_vocab()
        assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (1, 2, 0)

    def test_a_class_that_builds_another_one_is_among_them(self, copy: Path) -> None:
        from transformers import LlamaTokenizer

        pieces(copy)
        file, built = Tokenizer.from_file(str(copy / "tokenizer.json")), LlamaTokenizer.from_pretrained(copy)
        text = TEXTS[0]
        assert built(text, add_special_tokens=False)["input_ids"] != file.encode(text, add_special_tokens=False).ids

    def test_a_class_gives_names_of_special_tokens_that_the_file_has(self, encoder: Base, tmp_path: Path) -> None:
        shutil.copytree(encoder.folder, tmp_path / "old")
        write_json(tmp_path / "old" / "tokenizer_config.json", {"do_lower_case": True})  # as BERT's first ones are
        tokenizer, words = load_tokenizer(tmp_path / "old"), word_pieces()
        assert tokenizer.special_tokens_map == {
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
        }  # BERT's class names a [MASK] too, which these words have not
        assert len(tokenizer) == len(words)
        assert dict(tokenizer("The film", "good")) == dict(words("The film", "good"))
        assert "token_type_ids" in tokenizer("good")

    def test_chat_template_and_tokens_of_its_own_are_kept(self, copy: Path) -> None:
        pieces(copy)
        said = {"tokenizer_class": "LlamaTokenizer", "extra_special_tokens": ["▁lives"]}
        change(copy / "tokenizer_config.json", chat_template="{{ messages[0].content }}", **said)
        (copy / "additional_chat_templates").mkdir()
        (copy / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
        tokenizer = load_tokenizer(copy)
        assert tokenizer.apply_chat_template(
            [{"role": "user", "content": "x"}], tokenize=False, chat_template="tool_use"
        )
        assert tokenizer.convert_tokens_to_ids("▁lives") in tokenizer.all_special_ids
        (copy / "chat_template.jinja").write_text("of a file {{ messages[0].content }}")
        said = [{"role": "user", "content": "x"}]  # type: ignore[assignment]
        assert load_tokenizer(copy).apply_chat_template(said, tokenize=False) == "of a file x"

    def test_what_is_saved_loads_as_the_same(self, copy: Path, tmp_path: Path) -> None:
        pieces(copy)
        change(copy / "tokenizer_config.json", tokenizer_class="LlamaTokenizer")
        load_tokenizer(copy).save_pretrained(tmp_path / "saved")
        shutil.copyfile(copy / "config.json", tmp_path / "saved" / "config.json")
        one, two = load_tokenizer(copy), load_tokenizer(tmp_path / "saved")
        assert [one(text)["input_ids"] for text in TEXTS] == [two(text)["input_ids"] for text in TEXTS]


class TestEndTokens:
    @pytest.mark.parametrize(
        ("generation", "config", "expected"),
        [
            (1, 1, [1]),
            ([5, 1], 1, [5, 1]),
            (None, [1, 7], [1, 7]),
            ([9], [1, 7, 9], [9, 1, 7]),
            (None, None, []),
            ("1", [True, -1, 2.0, None, 3], [3]),
        ],
    )
    def test_of_both_files(self, copy: Path, generation: Any, config: Any, expected: list[int]) -> None:
        change(copy / "generation_config.json", eos_token_id=generation)
        change(copy / "config.json", eos_token_id=config)
        assert end_tokens(copy) == expected
        (copy / "generation_config.json").unlink()
        assert set(end_tokens(copy)) <= set(expected)

    def test_of_the_text_part_of_a_config(self, copy: Path) -> None:
        change(copy / "config.json", eos_token_id=..., text_config={"eos_token_id": 8})
        assert end_tokens(copy) == [1, 8]

    def test_a_tokenizer_without_one_takes_the_models_and_it_is_said(self, copy: Path) -> None:
        change(copy / "tokenizer_config.json", eos_token=...)
        assert load_tokenizer(copy).eos_token == "</s>"
        assert make_card(copy, "x")["notes"] == ["the tokenizer names no end token; the model's own is learned: '</s>'"]

    def test_no_end_token_at_all(self, copy: Path) -> None:
        change(copy / "tokenizer_config.json", eos_token=..., pad_token=...)
        change(copy / "generation_config.json", eos_token_id=[5000])
        change(copy / "config.json", eos_token_id=None)
        tokenizer = load_tokenizer(copy)
        assert tokenizer.eos_token is None
        assert tokenizer.pad_token is None
        assert make_card(copy, "x")["notes"] == [
            "neither tokenizer nor model names an end token: an answer's end is not learned"
        ]


def test_outputs_that_a_config_asks_for_are_not_given(copy: Path) -> None:
    change(copy / "config.json", return_dict=False, output_hidden_states=True, output_attentions=True)
    config = read_config(copy)
    assert (config.return_dict, config.output_hidden_states, config.output_attentions) == (True, False, False)
