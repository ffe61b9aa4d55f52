"""Make the logged models that tests/data/logged keeps, see test_models.py. Run once: kept files are not made anew.

python -W ignore -m tests.unit.stages.tracking.keep_models
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from knowtune.checkpoints.base import Base
from knowtune.checkpoints.cards import CARD, make_card
from knowtune.common.files import write_json
from knowtune.methods.lora import Lora
from knowtune.training.run import Job, train_seed
from tests.unit.helpers import COMPUTE, REVIEWS, TASK, fact_rows, recipe, review_rows
from tests.unit.stages.tracking.log_models import log, predict

KEPT = Path(__file__).resolve().parents[3] / "data/logged"


def make_base(folder: Path) -> Base:
    """Write a Llama of a few thousand weights, all random."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=280, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(fact_rows()["prompt"].tolist(), trainer)
    PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=280, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=64, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1, initializer_range=0.1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    write_json(folder / CARD, make_card(folder, "tiny"))
    return Base.open(folder, folder, COMPUTE, TASK)


def main() -> None:
    """Train, log in a real store, keep what MLflow keeps, and what it predicts."""
    base = make_base(KEPT / "base")
    with TemporaryDirectory() as scratch:
        adapters = []
        for on, rows in ((base, fact_rows().head(6)), (replace(base, task=REVIEWS), review_rows())):
            options = recipe(learning_rate=0.02, epochs=100)
            method = Lora(rank=4, alpha=16.0)
            job = Job("x", "lora", method, options, seed=0, rows=rows, validation=rows.head(0), mask=None)
            adapters.append(Path(scratch) / type(on.task).__name__.lower())
            train_seed(job, on, adapters[-1], Path(scratch) / "work" / adapters[-1].name)
        store = Path(scratch) / "store"
        store.mkdir()
        questions = {"knowledge": ["Ada lives in ", "The hat of Bob is "],
                     "classification": ["the film was fine", "the film was bad"]}  # fmt: skip
        answers = {}
        for name, model in zip(questions, log(store, base.folder, adapters), strict=True):
            shutil.copytree(model, KEPT / name)
            described = KEPT / name / "MLmodel"
            described.write_text(
                re.sub(r"(: )(?:file://)?/\S*/", r"\1", described.read_text())
            )  # no paths of a machine
            rows_ = [{"question": question} for question in questions[name]]
            answers[name] = dict(zip(questions[name], predict(KEPT / name, base.folder, rows_), strict=True))
    (KEPT / "answers.json").write_text(json.dumps(answers, indent=2) + "\n")


if __name__ == "__main__":
    main()
