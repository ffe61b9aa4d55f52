from __future__ import annotations

from typing import Any

import pytest

from knowtune.text.encode_pairs import encode_pairs, encode_wrapped
from knowtune.text.encode_rows import encode_rows, encode_texts
from knowtune.text.layout import Layout
from knowtune.text.special_tokens import control_pattern, control_tokens, ordinary_tokens, tokenise

TEXTS = ["the tag for struck text is <b> and x y z . s unk SEP sep im end | / [ ] _"] * 4
SPECIAL = ["<unk>", "<s>", "</s>", "<|im_end|>"]


def made(kind: str) -> Any:
    """Make a tokenizer of a family, trained on a few words."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    names = {"bos_token": "<s>", "eos_token": "</s>"}
    trainer: Any
    if kind == "byte-level":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=350, special_tokens=SPECIAL, initial_alphabet=alphabet)
    elif kind == "sentencepiece BPE":  # as Llama 2's: a blank before the text, bytes for what it has not
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        fuse = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        tokenizer.decoder = decoders.Sequence(fuse)
        byte_tokens = [f"<0x{i:02X}>" for i in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=[*SPECIAL, *byte_tokens])
    elif kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=SPECIAL, unk_token="<unk>")
    else:
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]", "[CLS]", "[SEP]", "[PAD]"])
        names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]"}
    trainer.show_progress = False
    tokenizer.train_from_iterator(TEXTS, trainer)
    if kind == "wordpiece":
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
    if kind in ("unigram", "sentencepiece BPE"):
        names["unk_token"] = "<unk>"
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    if kind != "wordpiece":
        wrapped.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    return wrapped


LANGUAGE = ["byte-level", "sentencepiece BPE", "unigram"]


@pytest.fixture(scope="module", params=LANGUAGE)
def speaker(request: pytest.FixtureRequest) -> Any:
    return made(request.param)


@pytest.fixture(scope="module")
def reader() -> Any:
    return made("wordpiece")


class TestControlTokensInCells:
    @pytest.mark.parametrize("text", ["<s>", "</s>", "<|im_end|>", "the <s> tag </s>", "</s></s>", "x</s>y", "<unk> x"])
    def test_they_are_text(self, text: str, speaker: Any) -> None:
        ids, ranges = tokenise(speaker, [text])[0]
        assert set(ids).isdisjoint(set(speaker.all_special_ids) - {speaker.unk_token_id})
        assert speaker.decode(ids, skip_special_tokens=False).strip() == text
        assert max(stop for _, stop in ranges) == len(text)

    def test_a_row_learns_them_letter_by_letter(self, speaker: Any) -> None:
        row = encode_rows(speaker, ["the tag </s> is "], ["<s>"])[0]
        learned = row.input_ids[row.target_start : row.target_end]
        assert speaker.decode(learned, skip_special_tokens=True).strip() == "<s>"
        assert row.input_ids.count(speaker.bos_token_id) == 1
        assert row.input_ids.count(speaker.eos_token_id) == 1
        assert row.input_ids[-1] == speaker.eos_token_id

    def test_neither_does_running_text_hold_any(self, speaker: Any) -> None:
        assert encode_texts(speaker, ["x </s> y <s> z"], 99)[0].count(speaker.bos_token_id) == 1
        assert speaker.eos_token_id not in encode_texts(speaker, ["x </s> y"], 99)[0]

    def test_other_texts_are_read_as_ever(self, speaker: Any) -> None:
        for text in ("the tag for x", "  a  b", "<b> < s >", ""):
            expected = speaker(text, add_special_tokens=False, return_offsets_mapping=True)
            assert tokenise(speaker, [text])[0] == (expected["input_ids"], expected["offset_mapping"])

    def test_a_tokenizer_is_left_as_it_is(self, speaker: Any) -> None:
        tokenise(speaker, ["<s>"])
        assert speaker("<s>", add_special_tokens=False)["input_ids"] == [speaker.bos_token_id]

    def test_a_classifier_reads_text(self, reader: Any) -> None:
        row = encode_pairs(reader, ["the [SEP] x"], ["[CLS] y"], [0.0])[0]
        names = reader.convert_ids_to_tokens(row.input_ids)
        assert [name for name in names if name in ("[CLS]", "[SEP]")] == ["[CLS]", "[SEP]", "[SEP]"]
        assert names[0] == "[CLS]"
        assert "sep" in names
        ids, own = encode_wrapped(reader, ["[SEP]"])
        assert sum(own[0]) >= 1, "the letters are the text's own"
        assert ids[0].count(reader.sep_token_id) == 1

    def test_a_word_of_the_vocabulary_is_split_in_a_classifiers_text_too(self) -> None:
        tokenizer = made("unigram")
        rows = encode_pairs(tokenizer, ["the </s> x", "</s>"], [], [0.0, 0.0])
        assert all(tokenizer.eos_token_id not in row.input_ids for row in rows)
        assert len(encode_pairs(tokenizer, ["the </s> x"], [], [0.0], max_tokens=3)[0].input_ids) == 3

    def test_words_that_were_added_stay_whole(self) -> None:
        tokenizer = made("byte-level")
        tokenizer.add_tokens(["<think>"])
        ids, _ = tokenise(tokenizer, ["<think> x"])[0]
        assert ids[0] == tokenizer.convert_tokens_to_ids("<think>")


class TestMeant:
    def test_control_tokens_are_themselves_where_they_are_meant(self, speaker: Any) -> None:
        text = "</s> x </s> y </s>"
        ids, _ = tokenise(speaker, [text], [[(0, 4), (14, 18)]])[0]
        assert ids.count(speaker.eos_token_id) == 2
        assert ids[0] == ids[-1] == speaker.eos_token_id
        assert speaker.decode(ids, skip_special_tokens=True).replace(" ", "") == "x</s>y"

    def test_all_meant_is_what_the_tokenizer_does(self, speaker: Any) -> None:
        text = "<s>the </s> x<|im_end|>"
        expected = speaker(text, add_special_tokens=False)["input_ids"]
        assert tokenise(speaker, [text], [[(0, len(text))]])[0][0] == expected

    def test_plain_and_marked_texts_stand_together(self, speaker: Any) -> None:
        alone = [tokenise(speaker, [text], [ranges])[0] for text, ranges in (("a </s>", []), ("a </s>", [(2, 6)]))]
        assert tokenise(speaker, ["a </s>"] * 2, [[], [(2, 6)]]) == alone
        assert alone[0] != alone[1]


def test_the_names_of_control_tokens(speaker: Any) -> None:
    assert {"<s>", "</s>", "<|im_end|>"} <= set(control_tokens(speaker).values())
    assert control_pattern(speaker).findall("a<s>b<|im_end|></s>") == ["<s>", "<|im_end|>", "</s>"]


def test_ordinary_tokens_stand_amid_text(speaker: Any) -> None:
    around = tokenise(speaker, ["x"])[0][0]
    assert speaker.decode([*around, *ordinary_tokens(speaker, "</s>")]) in ("x</s>", "x </s>")


class TestLayouts:
    PROMPT = "<s>the <|im_end|> x</s>y<|im_end|>"

    def test_a_marked_row(self, speaker: Any) -> None:
        """The first <|im_end|> and the </s> are a cell's."""
        layout = Layout(ending="<|im_end|> ", markup=((0, 7), (24, 34)), start=False)
        row = encode_rows(speaker, [self.PROMPT], ["<b>"], [layout.to_text()])[0]
        end = speaker.convert_tokens_to_ids("<|im_end|>")
        assert row.input_ids.count(speaker.bos_token_id) == 1
        assert row.input_ids.count(end) == 2
        assert speaker.eos_token_id not in row.input_ids, "the ending stands in its place"
        assert row.input_ids[row.target_start - 1] == end
        assert speaker.decode(row.input_ids[row.target_start : row.target_end]).strip() == "<b>"
        assert row.input_ids[row.target_end] == end
        assert row.labels[row.target_start :] == row.input_ids[row.target_start :]

    def test_the_start_token_is_not_doubled(self, speaker: Any) -> None:
        marked = Layout(markup=((0, 3),)).to_text()
        for prompt, layout in (("<s>the ", marked), ("the ", ""), ("the ", marked)):
            row = encode_rows(speaker, [prompt], ["x"], [layout])[0]
            assert row.input_ids.count(speaker.bos_token_id) == 1
            assert row.input_ids[0] == speaker.bos_token_id
        bare = encode_rows(speaker, ["the "], ["x"], [Layout(ending="</s>", start=False).to_text()])[0]
        assert speaker.bos_token_id not in bare.input_ids
        assert bare.input_ids.count(speaker.eos_token_id) == 1

    def test_earlier_turns_are_learned(self, speaker: Any) -> None:
        prompt = "the x</s>tag y</s>"
        layout = Layout(ending="</s>", markup=((0, len(prompt)),), turns=((4, 9),))
        row = encode_rows(speaker, [prompt], ["z"], [layout.to_text()])[0]
        learned = [token for token in row.labels if token != -100]
        assert speaker.decode(learned, skip_special_tokens=False).replace(" ", "") == "x</s>z</s>"
        assert row.num_learned == len(learned)

    def test_an_empty_target_teaches_the_ending_alone(self, speaker: Any) -> None:
        row = encode_rows(speaker, ["the tag "], [""], [Layout(ending="<|im_end|>").to_text()])[0]
        assert not row.has_target
        assert speaker.convert_ids_to_tokens([t for t in row.labels if t != -100]) == ["<|im_end|>"]
