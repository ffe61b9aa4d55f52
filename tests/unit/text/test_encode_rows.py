from __future__ import annotations

from typing import Any

import pytest

from knowtune.text.encode_rows import encode_rows, encode_texts


def metaspace(bos: bool, eos: bool, prepend: str = "always") -> Any:
    """Make a tokenizer as sentencepiece makes them: words with a leading ▁, single letters for the rest."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["▁The", "▁hat", "▁is", "▁red", "▁New", "▁York", "▁a", "re", "d"]
    letters = list("▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZéà.")
    vocabulary = [(word, -1.0) for word in ["<unk>", "<s>", "</s>", *words]] + [(c, -10.0) for c in letters]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=prepend)
    special = {**({"bos_token": "<s>"} if bos else {}), **({"eos_token": "</s>"} if eos else {})}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **special)


def byte_level(tokenizer: Any, bos: bool, eos: bool) -> Any:
    from transformers import PreTrainedTokenizerFast

    special = {**({"bos_token": "<s>"} if bos else {}), **({"eos_token": "</s>"} if eos else {})}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, **special)


PAIRS = [
    ("The hat of Ada is ", "red"),
    ("Ada lives in ", "New York"),
    ("x ", "é漢😀"),
    ("a  b  ", "c"),
    ("Là ", "red."),
    ("a.", "red"),  # no blank between them
    ("The hat is\n", "red"),
]


@pytest.mark.parametrize("kind", ["byte-level", "metaspace always", "metaspace first", "metaspace never"])
@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("eos", [True, False])
def test_the_border_lies_between_prompt_and_target(kind: str, bos: bool, eos: bool, tokenizer: Any) -> None:
    made = byte_level(tokenizer, bos, eos) if kind == "byte-level" else metaspace(bos, eos, kind.split()[1])
    for (prompt, target), row in zip(PAIRS, encode_rows(made, *zip(*PAIRS, strict=True)), strict=True):
        ids = made(prompt + target, add_special_tokens=False)["input_ids"]
        start, end = [made.bos_token_id] * bos, [made.eos_token_id] * eos
        assert row.input_ids == [*start, *ids, *end]
        assert row.target_end == len(start) + len(ids)
        assert 0 < row.target_start < row.target_end
        learned = [i for i in row.labels if i != -100]
        assert learned == [*row.input_ids[row.target_start : row.target_end], *end]
        if ("漢" not in target and "\n" not in prompt) or kind == "byte-level":
            before = made.decode(row.input_ids[len(start) : row.target_start])
            after = made.decode(row.input_ids[row.target_start : row.target_end])
            assert after.strip() == target
            assert before.strip() == prompt.strip()


def test_by_hand() -> None:
    made = metaspace(True, True)
    row = encode_rows(made, ["The hat is "], ["red"])[0]
    names = made.convert_ids_to_tokens(row.input_ids)
    assert names == ["<s>", "▁The", "▁hat", "▁is", "▁red", "</s>"]
    assert (row.target_start, row.target_end) == (4, 5)
    assert row.labels == [-100, -100, -100, -100, row.input_ids[4], row.input_ids[5]]
    assert row.target_mask == [False, False, False, False, True, False]


def test_the_prompt_reads_as_the_model_would_be_asked(tokenizer: Any) -> None:
    for prompt, target in PAIRS:
        row = encode_rows(tokenizer, [prompt], [target])[0]
        asked = encode_texts(tokenizer, [prompt.rstrip(" ")], 64)[0]
        assert row.input_ids[: row.target_start] == asked


@pytest.mark.parametrize("eos", [True, False])
def test_an_empty_target_teaches_the_end_alone(eos: bool) -> None:
    made = metaspace(True, eos)
    row = encode_rows(made, ["The hat is "], [""])[0]
    assert made.convert_ids_to_tokens(row.input_ids) == ["<s>", "▁The", "▁hat", "▁is"] + ["</s>"] * eos
    assert (row.target_start, row.target_end) == (4, 4)
    assert row.labels == [-100] * 4 + [made.eos_token_id] * eos
    assert not any(row.target_mask)


def test_what_a_row_teaches() -> None:
    made = metaspace(True, True)
    red, nothing, bare = (
        encode_rows(made, [p], [t])[0] for p, t in (("The hat is ", "red"), ("The ", ""), ("", "red"))
    )
    assert (red.has_target, red.num_learned) == (True, 2)  # the target's token and the end
    assert (nothing.has_target, nothing.num_learned) == (False, 1)
    assert (bare.has_target, bare.num_learned) == (True, 2)
    unstarted = encode_rows(metaspace(False, True), [""], ["red"])[0]
    assert (unstarted.target_start, unstarted.num_learned) == (0, 1)  # nothing stands before the first token


def test_no_rows() -> None:
    assert encode_rows(metaspace(True, True), [], []) == []
    assert encode_texts(metaspace(True, True), [], 8) == []


def test_as_many_prompts_as_targets() -> None:
    with pytest.raises(ValueError, match="zip"):
        encode_rows(metaspace(True, True), ["a", "b"], ["c"])


def test_texts_start_with_the_start_token_and_are_cut() -> None:
    made = metaspace(True, True)
    assert [made.convert_ids_to_tokens(ids) for ids in encode_texts(made, ["The hat is red", "The"], 3)] == [
        ["<s>", "▁The", "▁hat"],
        ["<s>", "▁The"],
    ]
    assert made.convert_ids_to_tokens(encode_texts(metaspace(False, True), ["The hat"], 3)[0]) == ["▁The", "▁hat"]
