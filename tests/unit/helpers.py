"""What several test modules need: small rows, a short recipe, one short training."""

from __future__ import annotations

import subprocess
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from knowtune.checkpoints.base import Base
from knowtune.data.contract import ROW_COLUMNS
from knowtune.filters.base import Seen
from knowtune.methods.base import MaskedMethod, Method
from knowtune.models.compute import Compute
from knowtune.models.masks import Mask
from knowtune.semantics.representations.input_embedding import InputEmbedding
from knowtune.tasks.classification import Classification
from knowtune.tasks.knowledge import Knowledge
from knowtune.training.dataset import Rows
from knowtune.training.fit import Fitted, Training, fit, seed_everything
from knowtune.training.recipe import Recipe
from knowtune.training.reweighting import Plan, open_reweighting
from knowtune.training.weights import Weighting

PRESETS = ("minilm", "pararel", "relations")  # the project's own; others in presets/ are the user's
COMPUTE = Compute(device="cpu", dtype="float32", quantize="none", threads=1)
TASK = Knowledge()
REVIEWS = Classification(labels=["bad", "good"])
NAMES = ["Ada", "Bob", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hal", "Ina", "Jo", "Kim", "Lou"]
COLOURS = ["red", "green", "blue", "black"]
TOWNS = ["Rome", "Oslo", "Bern", "Lima", "Cairo"]
RECIPE = Recipe(
    epochs=1,
    batch_size=4,
    gradient_accumulation_steps=1,
    learning_rate=5e-3,
    lr_scheduler_type="constant",
    warmup_steps=0,
    weight_decay=0.0,
    max_grad_norm=1.0,
    logging_steps=1,
    save_steps=1000,
    load_best_model_at_end=False,
)


def recipe(**changes: Any) -> Recipe:
    return RECIPE.with_changes(changes)


def training(rows: Rows, work: Path, made: Recipe = RECIPE, **changes: Any) -> Training:
    return Training(
        **{"rows": rows, "recipe": made, "compute": COMPUTE, "task": TASK, "seed": 0, "work": work, **changes}
    )


def row(
    row_id: str,
    prompt: str,
    target: str,
    relation: str = "r",
    subject: str = "s",
    fact: str = "",
    pair: str = "",
    aliases: str = "",
    layout: str = "",
    old: str = "",
) -> list[str]:
    return [row_id, fact or f"{relation}:{subject}", relation, subject, "0", prompt, pair, target, aliases, layout, old]


def table(*rows: list[str]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=ROW_COLUMNS, dtype="str")


def fact_rows() -> pd.DataFrame:
    rows = []
    for i, name in enumerate(NAMES):
        colour, town = COLOURS[i % len(COLOURS)], TOWNS[i % len(TOWNS)]
        rows.append(row(f"colour:{name}:0", f"The hat of {name} is ", colour, "colour", name))
        rows.append(row(f"town:{name}:0", f"{name} lives in ", town, "town", name))
    return table(*rows)


def review_rows() -> pd.DataFrame:
    """Reviews whose label is in one word of theirs; of several lengths."""
    good, bad = ["good", "fun", "great", "fine"], ["bad", "dull", "poor", "slow"]
    rows = []
    for i in range(24):
        label, word = ("good", good[i % 4]) if i % 2 else ("bad", bad[i % 4])
        text = " ".join(["the film was", *["very"] * (i % 5), word, *["and it is long ."] * (i % 3)])
        rows.append(row(f"review:{i}", text, label))
    return table(*rows)


def word_pieces() -> Any:
    """Make a tokenizer as BERT has it, with a small vocabulary."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    plain = "the film was very good fun great fine bad dull poor slow and it is long . a b one two ##s ##ly".split()
    wordpiece = Tokenizer(models.WordPiece({word: i for i, word in enumerate([*special, *plain])}, unk_token="[UNK]"))
    wordpiece.normalizer = normalizers.BertNormalizer(lowercase=True)
    wordpiece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    wordpiece.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=wordpiece,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def answers_for(rows: pd.DataFrame, distances: Sequence[float] | None = None) -> pd.DataFrame:
    found = 1.0 if distances is None else list(distances)
    columns = {"id": rows["id"], "answer": "", "correct": False, "num_tokens": 3, "distance": found}
    return pd.DataFrame(columns, index=rows.index)


def seen_of(rows: pd.DataFrame, distances: Sequence[float] | None = None) -> Seen:
    """Give distances, all different, and sketches that follow from the ids, whatever the order of the rows."""
    keys = [zlib.crc32(row_id.encode()) for row_id in rows["id"]]
    sketches = [np.random.default_rng(key).normal(0.3, 1.0, 16) for key in keys]
    return Seen(
        answers_for(rows, [key / 2**31 for key in keys] if distances is None else distances),
        np.array(sketches, dtype="float32"),
    )


def encoded(base: Base, rows: pd.DataFrame, weights: Sequence[float] | None = None) -> Rows:
    tokens = base.task.encode(base.tokenizer(), rows)
    return Rows(tokens, rows["id"].tolist(), weights)


def plan(**options: Any) -> Plan:
    """Make a plan of weights; a short answer is enough for these targets."""
    return Plan(Weighting(**options), InputEmbedding(), 4, 4, "runs.x.reweight")


def with_distances(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(distance=[0.1 + 1.7 * ((7 * i) % 24) / 24 for i in range(len(rows))])


def train(
    base: Base,
    method: Method,
    rows: pd.DataFrame,
    work: Path,
    seed: int = 0,
    model: Any = None,
    weighed: Plan | None = None,
    mask: Mask | None = None,
    **changes: Any,
) -> Fitted:
    """Attach and train as `knowtune.training.run.train_seed` does."""
    given = encoded(base, rows)
    reweighting = open_reweighting(weighed, rows, given, base, base.tokenizer(), "training") if weighed else None
    seed_everything(seed)
    model = base.model() if model is None else model
    if method.needs_mask and mask is None:  # every seventh entry
        mask = {name: torch.arange(0, p.numel(), 7) for name, p in model.named_parameters()}
    if mask is not None:
        assert isinstance(method, MaskedMethod)
        attached = method.attach_masked(model, mask, None)
    else:
        attached = method.attach(model)
    options: dict[str, Any] = {"seed": seed, "task": base.task, "method": method, "reweighting": reweighting}
    return fit(attached, training(given, work, recipe(**changes), **options))


def state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def equal_states(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[bool]:
    """Mount a disk of a few bytes at a folder; yields whether this machine lets us."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)  # an error holds the file it could not write


@contextmanager
def counted_calls(target: Any, name: str, fail_at: int, error: Exception) -> Iterator[list[int]]:
    """Let a method raise at its call number `fail_at`, counted from 1."""
    original, calls = getattr(target, name), [0]

    def call(*args: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == fail_at:
            raise error
        return original(*args, **options)

    setattr(target, name, call)
    try:
        yield calls
    finally:
        setattr(target, name, original)
