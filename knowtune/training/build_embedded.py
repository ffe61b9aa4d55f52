"""Build the embedded base: a small Llama with a tokenizer of its own that knows the known facts and everyday English.

The tokenizer has read every name (as the tokenizer of a real model has), the model only the known facts, each under all
templates but one, and the general text.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, model_validator

from knowtune.training.recipe import Recipe

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

    from knowtune.data.authored import Authored
    from knowtune.models.compute import Compute
    from knowtune.training.dataset import Rows

START, END, PAD = "<s>", "</s>", "<pad>"


class Build(BaseModel):
    """Size and training of the embedded base."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    vocab_size: int = Field(ge=300, le=65536)
    hidden_size: int = Field(ge=16, le=1024)
    intermediate_size: int = Field(ge=16, le=4096)
    num_layers: int = Field(ge=1, le=24)
    num_heads: int = Field(ge=1, le=32)
    context: int = Field(ge=32, le=4096)
    epochs: float = Field(gt=1e-6, le=1e4)
    text_repeats: float = Field(ge=0, le=1)
    batch_size: int = Field(ge=1, lt=2**31)
    learning_rate: float = Field(gt=1e-12, lt=1)
    seed: int = Field(ge=0, lt=2**31)

    @model_validator(mode="after")
    def _heads_divide(self) -> Build:
        """Require heads of an even width, as rotary position embeddings need it."""
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(f"num_heads whose double divides hidden_size ({self.hidden_size}), not {self.num_heads}")
        return self


def build_tokenizer(authored: Authored, vocab_size: int) -> PreTrainedTokenizerBase:
    """Train a byte-level BPE tokenizer on the templates, names and general text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[START, END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    corpus = [f" {text}" for column in ("subject", "target") for text in authored.facts[column]] * 3
    corpus += [t.replace("{subject}", "") for templates in authored.templates.values() for t in templates] * 20
    corpus += authored.text.loc[authored.text["split"] == "train", "text"].tolist()
    tokenizer.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=START, eos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False
    )


def build_base(authored: Authored, build: Build, compute: Compute, folder: Path, work: Path) -> dict[str, int]:
    """Train the embedded base and save it with its tokenizer in transformers layout.

    Args:
        authored: the authored facts and text.
        build: size and training.
        compute: device, dtype and threads.
        folder: where the model goes.
        work: where checkpoints lie while it trains.

    Returns:
        Counts: parameters, steps, rows.
    """
    from knowtune.models.load import as_pretrained
    from knowtune.tasks.knowledge import Knowledge
    from knowtune.training.fit import Training, fit, seed_everything
    from knowtune.training.optimizers import MuonAdamW

    tokenizer = build_tokenizer(authored, build.vocab_size)
    rows, recipe = _rows(authored, build, tokenizer), _recipe(build)
    seed_everything(build.seed)
    model = _new_model(build, tokenizer)
    training = Training(
        rows=rows, recipe=recipe, compute=compute, task=Knowledge(), seed=build.seed, work=work,
        optimizer=MuonAdamW(model, build.learning_rate, recipe.weight_decay), label="base",
        all_logits=True,  # the evidence is about the base that these sums lead to, byte for byte
    )  # fmt: skip
    fitted = fit(model, training)
    as_pretrained(fitted.model).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"num_parameters": fitted.num_parameters, "num_steps": fitted.num_steps, "num_rows": len(rows)}


def _rows(authored: Authored, build: Build, tokenizer: PreTrainedTokenizerBase) -> Rows:
    """Encode what the base learns: known facts under all templates but one, and a share of the general text."""
    from knowtune.text.encode_rows import encode_rows, encode_texts
    from knowtune.text.encoded import Encoded
    from knowtune.training.dataset import Rows

    num_templates = min(len(templates) for templates in authored.templates.values())
    facts = authored.rows("known", range(1, num_templates))
    rows = encode_rows(tokenizer, facts["prompt"], facts["target"])
    texts = authored.text.loc[authored.text["split"] == "train", "text"].tolist()
    texts = texts[: round(len(texts) * build.text_repeats)]
    of_texts = encode_texts(tokenizer, texts, build.context)
    rows += [Encoded(ids, 1, len(ids)) for ids in of_texts]  # every token is learned
    return Rows(rows, [str(i) for i in range(len(rows))])


def _recipe(build: Build) -> Recipe:
    """Complete the settings that a person turns."""
    return Recipe(
        epochs=build.epochs,
        batch_size=build.batch_size,
        gradient_accumulation_steps=1,
        learning_rate=build.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=50,
        weight_decay=0.01,
        max_grad_norm=1.0,
        logging_steps=50,
        save_steps=200,
        load_best_model_at_end=False,
    )


def _new_model(build: Build, tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """Make the model, its weights drawn from torch's global seed."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=build.hidden_size,
            intermediate_size=build.intermediate_size,
            num_hidden_layers=build.num_layers,
            num_attention_heads=build.num_heads,
            num_key_value_heads=build.num_heads,
            max_position_embeddings=build.context,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
