"""What the base writes itself: sequences of its own distribution, to be replayed, or for a tuned model to be held to.

The base goes on from its start token, or from a prompt of rows that may be replayed. A sequence that quotes a measured
fact, or in which nothing is written, is dropped with the reason and replaced by a further draw, up to a bound. Sequence
number n depends on the base, the seed and n alone (`knowtune.models.sample`), and finished batches stay in the work
folder, so a killed run ends with the same bytes.

    sequences.jsonl  id, input_ids, text    those that are kept, with their start or prompt
    dropped.jsonl    id, text, reason       those before the last that is kept
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from knowtune.common.errors import UserError
from knowtune.common.files import read_rows, row_writer, write_rows
from knowtune.common.progress import progress_unsized
from knowtune.data.quotes import Quotes
from knowtune.preserve.sources import SEQUENCES
from knowtune.text.layout import Layout, Range
from knowtune.text.special_tokens import control_tokens, tokenise

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from knowtune.checkpoints.base import Base
    from knowtune.preserve.options import Rehearsal

DROPPED = "dropped.jsonl"
MOST_DRAWS = 10  # sequences drawn for each one that is wanted, at most
ENOUGH = 64  # sequences after which a base that has written nothing is taken to write nothing
MOST_PROMPT = 0.5  # share of a sequence's tokens that its few-shot prompt may take
EMPTY = "nothing is written"
OTHERS = "another source (known or text)"


@dataclass(frozen=True)
class Rehearsing:
    """What a rehearsal reads.

    Args:
        base: the pristine base.
        settings: how many sequences, and how they are drawn.
        examples: rows that may be replayed, for few-shot prompts.
        measured: evaluation examples, which no sequence may quote.
    """

    base: Base
    settings: Rehearsal
    examples: pd.DataFrame
    measured: pd.DataFrame


def rehearse(given: Rehearsing, model: Any, work: Path, out: Path) -> dict[str, Any]:
    """Let the base write sequences.

    Args:
        given: what is read.
        model: the base's model.
        work: where finished batches stay; keyed by everything that decides them.
        out: folder for `sequences.jsonl` and `dropped.jsonl`.

    Returns:
        How many sequences there are, of how many tokens, and how many were dropped for which reason.

    Raises:
        UserError: the base does not write text, has no start token, writes nothing, or too little that is not measured.
    """
    settings = given.settings
    prompts = _Prompts(given)
    kept = tokens = 0
    reasons: Counter[str] = Counter()
    with row_writer(out / SEQUENCES) as keep, row_writer(out / DROPPED) as drop:
        for part in progress_unsized(_parts(given, prompts, model, work), "rehearse, batches"):
            good = part.index[part["reason"] == ""][: settings.sequences - kept]
            last = good[-1] if kept + len(good) == settings.sequences else len(part)
            bad = part[(part["reason"] != "") & (part.index <= last)]
            keep(part.loc[good, ["id", "input_ids", "text"]])
            drop(bad[["id", "text", "reason"]])
            kept, tokens = kept + len(good), tokens + sum(map(len, part.loc[good, "input_ids"]))
            reasons.update(EMPTY if reason == EMPTY else "quotes a measured row" for reason in bad["reason"])
            if reasons[EMPTY] >= ENOUGH and not kept:
                raise UserError(
                    f"rehearse: the base ends at once: {reasons[EMPTY]} sequences of it hold no text. {WAY_OUT}"
                )
            if kept == settings.sequences:
                break
    if not kept:
        raise UserError(f"rehearse: each of {reasons.total()} sequences is dropped: {dict(reasons)}. {WAY_OUT}")
    return {"sequences": kept, "tokens": tokens, "dropped": dict(sorted(reasons.items()))}


WAY_OUT = f"Set rehearse.prompt: few_shot, or let `preserve` read {OTHERS}"


def _parts(given: Rehearsing, prompts: _Prompts, model: Any, work: Path) -> Iterator[pd.DataFrame]:
    """Draw sequences batch by batch, or read those that are there already."""
    from knowtune.models.sample import sample_sequences

    settings, tokenizer, quotes = given.settings, given.base.tokenizer(), Quotes(given.measured)
    bound = settings.sequences * MOST_DRAWS
    for first in range(0, bound, settings.batch_size):
        path = work / f"{first // settings.batch_size:06d}.jsonl"
        if not path.is_file():
            numbers = range(first, min(first + settings.batch_size, bound))
            starts = [prompts.start(number) for number in numbers]
            options = (settings.max_tokens, settings.temperature, settings.seed)
            written = sample_sequences(model, tokenizer, starts, numbers, *options)
            write_rows(path, _judge(tokenizer, quotes, numbers, starts, written))
        yield read_rows(path)


def _judge(
    tokenizer: PreTrainedTokenizerBase,
    quotes: Quotes,
    numbers: range,
    starts: list[list[int]],
    written: list[list[int]],
) -> pd.DataFrame:
    """Make the table of a batch, with why a sequence is dropped or ""."""
    plain = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    texts: list[str] = tokenizer.batch_decode(written, **plain)
    own = tokenizer.batch_decode([ids[len(start) :] for ids, start in zip(written, starts, strict=True)], **plain)
    reasons = []
    for text, fresh in zip(texts, own, strict=True):
        quoted = quotes.in_text(text)
        reasons.append(EMPTY if not fresh.strip() else "" if quoted is None else f"quotes the measured row {quoted!r}")
    ids = [f"self:{number}" for number in numbers]
    return pd.DataFrame({"id": ids, "input_ids": written, "text": texts, "reason": reasons})


class _Prompts:
    """Gives what each sequence goes on from."""

    def __init__(self, given: Rehearsing) -> None:
        """Check that there is something to go on from."""
        base, settings = given.base, given.settings
        if not base.task.writes:
            raise UserError(f"rehearse: the base of a {type(base.task).__name__.lower()} writes no text; use {OTHERS}")
        if settings.max_tokens > base.context:
            raise UserError(
                f"rehearse.max_tokens: got {settings.max_tokens}; allowed: up to {base.context}, the base's context"
            )
        self.settings, self.tokenizer, self.rows = settings, base.tokenizer(), given.examples
        token = start_token(self.tokenizer, base.folder)
        self.lead = [] if token is None else [token]
        few_shot = settings.prompt == "few_shot" and settings.shots > 0
        if few_shot and self.rows.empty:
            raise UserError(
                "rehearse.prompt: few_shot needs rows that may be replayed; raise prepare.replay.known or give "
                "source.files.replay, or set `prompt: start`"
            )
        if not few_shot and not self.lead:
            raise UserError(f"rehearse: the base has no start token to write from. {WAY_OUT}")
        self.shots = settings.shots if few_shot else 0

    def start(self, number: int) -> list[int]:
        """Give the tokens that sequence `number` goes on from: the start token, and as many rows as have room.

        Raises:
            UserError: a row alone takes more than its part of a sequence.
        """
        if not self.shots:
            return self.lead
        generator = np.random.default_rng((self.settings.seed, number, 1))  # another stream than that of the tokens
        drawn = generator.choice(len(self.rows), min(self.shots, len(self.rows)), replace=False)
        room = int(self.settings.max_tokens * MOST_PROMPT)
        for count in range(len(drawn), 0, -1):
            ids = self._encode(self.rows.iloc[drawn[:count]])
            if len(ids) <= room:
                return ids
        row_id = self.rows["id"].iloc[drawn[0]]
        raise UserError(
            f"rehearse.max_tokens: got {self.settings.max_tokens}; allowed: {2 * len(ids)} or more, for row {row_id!r} "
            f"alone takes {len(ids)} tokens of a few-shot prompt, which may take half of a sequence"
        )

    def _encode(self, rows: pd.DataFrame) -> list[int]:
        """Encode rows one after the other: each on a line, or with its template's own ending."""
        text, meant = "", list[Range]()
        for prompt, target, cell in zip(rows["prompt"], rows["target"], rows["layout"], strict=True):
            layout = Layout.read(cell)
            meant += [(len(text) + a, len(text) + b) for a, b in layout.control_ranges(len(prompt), len(target))]
            text += prompt + target + (layout.ending or "\n")
        ((ids, _),) = tokenise(self.tokenizer, [text], [meant])
        return ids if ids[: len(self.lead)] == self.lead else [*self.lead, *ids]


def start_token(tokenizer: PreTrainedTokenizerBase, folder: Path) -> int | None:
    """Find the token that a text begins with: the tokenizer's, or the model's where it is a control token."""
    from knowtune.models.checkpoint_files import read_object

    if tokenizer.bos_token_id is not None:
        return int(tokenizer.bos_token_id)
    stated: Any = read_object(folder / "config.json").get("bos_token_id")
    return stated if type(stated) is int and stated in control_tokens(tokenizer) else None
