from __future__ import annotations

from typing import Any

from knowtune.text.encode_pairs import encode_pairs


def test_one_text(words: Any) -> None:
    rows = encode_pairs(words, ["the film", "good"], ["", ""], [1.0, 0.0])
    names = [words.convert_ids_to_tokens(row.input_ids) for row in rows]
    assert names == [["[CLS]", "the", "film", "[SEP]"], ["[CLS]", "good", "[SEP]"]]
    assert [row.segments for row in rows] == [[0, 0, 0, 0], [0, 0, 0]]
    assert [row.label for row in rows] == [1.0, 0.0]
    assert {row.filling for row in rows} == {words.pad_token_id}


def test_a_second_text_is_another_segment(words: Any) -> None:
    row = encode_pairs(words, ["the film"], ["good"], [0.0])[0]
    assert words.convert_ids_to_tokens(row.input_ids) == ["[CLS]", "the", "film", "[SEP]", "good", "[SEP]"]
    assert row.segments == [0, 0, 0, 0, 1, 1]


def test_texts_are_cut_only_where_that_is_asked_for(words: Any) -> None:
    texts = ["good " * 40, "bad"]
    assert [len(row.input_ids) for row in encode_pairs(words, texts, [], [0.0, 0.0])] == [42, 3]
    assert [len(row.input_ids) for row in encode_pairs(words, texts, [], [0.0, 0.0], max_tokens=8)] == [8, 3]


def test_a_model_without_segments_has_none(tokenizer: Any) -> None:
    assert [row.segments for row in encode_pairs(tokenizer, ["Ada"], [], [0.0])] == [None]


def test_no_rows(words: Any) -> None:
    assert encode_pairs(words, [], [], []) == []
