from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.checkpoints.cards import CARD, make_card
from knowtune.common.files import write_json
from knowtune.text.batches import pad
from knowtune.text.encode_rows import encode_rows
from tests.unit.helpers import COMPUTE, REVIEWS, TASK, fact_rows, word_pieces

START, END, PAD = "<s>", "</s>", "<pad>"


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_search_in_what_stays() -> Iterator[None]:
    """Keep what outlives a test out of garbage collection: the Trainer asks for one, which took 0.3 s each time."""
    yield
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # as where nothing is ever collected
        gc.collect()  # of this test's objects alone
    gc.freeze()


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """Give a tiny Llama that knows half of its facts, saved in transformers layout."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("base")
    rows = fact_rows()
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=[START, END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator((rows["prompt"] + rows["target"]).tolist() * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=START, eos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    ids = [e.input_ids for e in encode_rows(tokenizer, rows["prompt"], rows["target"])][: len(rows) // 2]
    labels = pad(ids, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(40):
        model(input_ids=pad(ids, 0), attention_mask=(labels != -100).long(), labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_json(folder / CARD, make_card(folder, "tiny"))
    return Base.open(folder, folder, COMPUTE, TASK)


@pytest.fixture(scope="session")
def tokenizer(base: Base):
    return base.tokenizer()


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """Give a tiny BERT without a head, as sentence encoders are saved."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("encoder")
    words = word_pieces()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=48,
        initializer_range=0.1,  # so that texts differ; with 0.02 a BERT this small says the same of all
        hidden_dropout_prob=0.0,  # so that it learns in a few steps
        attention_probs_dropout_prob=0.0,
        pad_token_id=words.pad_token_id,
    )
    BertModel(config).save_pretrained(folder)
    words.save_pretrained(folder)
    write_json(folder / CARD, make_card(folder, "bert"))
    return Base.open(folder, folder, COMPUTE, REVIEWS)


@pytest.fixture(scope="session")
def decoder(base: Base) -> Base:
    """Give the tiny Llama as the backbone of a classifier."""
    return replace(base, task=REVIEWS)


@pytest.fixture(scope="session")
def words(encoder: Base):
    return encoder.tokenizer()


@pytest.fixture
def rows() -> pd.DataFrame:
    return fact_rows()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "work"
