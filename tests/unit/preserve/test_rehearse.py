from __future__ import annotations

import json
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.common.files import read_rows
from knowtune.data.quotes import Quotes
from knowtune.preserve import rehearse as module
from knowtune.preserve.known_rows import split_by_base
from knowtune.preserve.options import Rehearsal
from knowtune.preserve.rehearse import Rehearsing, rehearse, start_token
from knowtune.preserve.sources import encode_sequences
from tests.unit.helpers import fact_rows, review_rows, table

ROWS = fact_rows()
OPTIONS = {"sequences": 20, "max_tokens": 12, "batch_size": 8}


def written(base: Base, folder: Path, measured: pd.DataFrame | None = None, **options: Any) -> dict[str, Any]:
    given = Rehearsing(base, Rehearsal(**{**OPTIONS, **options}), ROWS, table() if measured is None else measured)
    return rehearse(given, base.model(), folder / "work", folder / "out")


def outs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "out").iterdir())}


def without_end(tmp_path: Path, base: Base, name: str) -> Base:
    """Give the base with a tokenizer that has no such token, and a config that names none."""
    import shutil

    folder = tmp_path / "other"
    shutil.copytree(base.folder, folder)
    for file in ("tokenizer_config.json", "special_tokens_map.json", "config.json", "generation_config.json"):
        if (folder / file).is_file():
            content = json.loads((folder / file).read_text())
            content = {key: value for key, value in content.items() if key not in (name, f"{name}_id")}
            (folder / file).write_text(json.dumps(content))
    return replace(base, folder=folder)


class TestRehearse:
    def test_sequences_are_as_many_as_wanted_and_no_longer(self, base: Base, tmp_path: Path) -> None:
        summary = written(base, tmp_path)
        table = read_rows(tmp_path / "out/sequences.jsonl")
        assert summary["sequences"] == len(table) == 20
        assert summary["tokens"] == table["input_ids"].map(len).sum()
        assert table["input_ids"].map(len).max() <= 12
        assert all(ids[0] == base.tokenizer().bos_token_id for ids in table["input_ids"])
        assert table["text"].str.strip().ne("").all()
        assert [row.num_learned for row in encode_sequences(table)] == [len(ids) - 1 for ids in table["input_ids"]]

    def test_base_seed_and_settings_decide_not_the_batch(self, base: Base, tmp_path: Path) -> None:
        for name, options in {"a": {}, "b": {"batch_size": 3}, "c": {"seed": 1}, "d": {"temperature": 0.5}}.items():
            written(base, tmp_path / name, ROWS.head(3), **options)
        assert outs(tmp_path / "a") == outs(tmp_path / "b")
        assert outs(tmp_path / "a") != outs(tmp_path / "c")
        assert outs(tmp_path / "a") != outs(tmp_path / "d")
        more = written(base, tmp_path / "e", ROWS.head(3), sequences=25)
        assert more["sequences"] == 25
        assert (tmp_path / "e/out/sequences.jsonl").read_bytes().startswith(outs(tmp_path / "a")["sequences.jsonl"])

    def test_killed_and_resumed_gives_the_same_bytes(
        self, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        written(base, tmp_path / "whole")
        drawn: list[int] = []
        judge = module._judge

        def dying(*given: Any) -> pd.DataFrame:
            drawn.append(given[2].start)
            if len(drawn) == 2:
                raise KeyboardInterrupt
            return judge(*given)

        monkeypatch.setattr(module, "_judge", dying)
        with pytest.raises(KeyboardInterrupt):
            written(base, tmp_path / "killed")
        assert not outs(tmp_path / "killed")
        written(base, tmp_path / "killed")
        assert outs(tmp_path / "killed") == outs(tmp_path / "whole")
        assert drawn[:3] == [0, 8, 8]

    @pytest.mark.parametrize("options", [{}, {"prompt": "few_shot", "shots": 1, "max_tokens": 50}])
    def test_no_sequence_quotes_a_measured_fact(self, base: Base, tmp_path: Path, options: dict[str, Any]) -> None:
        measured = ROWS[ROWS["subject"].isin(["Ada", "Bob", "Cleo"])]
        given = Rehearsing(base, Rehearsal(**{**OPTIONS, **options}), ROWS.drop(measured.index), measured)
        rehearse(given, base.model(), tmp_path / "work", tmp_path / "out")
        kept, dropped = (read_rows(tmp_path / f"out/{name}.jsonl") for name in ("sequences", "dropped"))
        quotes = Quotes(measured)
        assert len(kept) == 20
        assert all(quotes.in_text(text) is None for text in kept["text"])
        assert dropped["reason"].str.match("quotes the measured row '|nothing is written").all()
        quoted = dropped[dropped["reason"].str.startswith("quotes")]
        assert len(quoted)
        assert all(f"quotes the measured row {quotes.in_text(one.text)!r}" == one.reason for one in quoted.itertuples())
        numbers = [int(name.partition(":")[2]) for name in [*kept["id"], *dropped["id"]]]
        assert sorted(numbers) == list(range(len(numbers)))

    def test_few_shot_prompts_are_rows_that_may_be_replayed(self, base: Base, tmp_path: Path) -> None:
        written(base, tmp_path, prompt="few_shot", shots=2, max_tokens=60)
        lines = set(ROWS["prompt"] + ROWS["target"])
        starts = [text.split("\n")[:2] for text in read_rows(tmp_path / "out/sequences.jsonl")["text"]]
        assert all(set(start) <= lines for start in starts)
        assert len({tuple(start) for start in starts}) > 5

    def test_a_prompt_takes_as_many_rows_as_have_room(self, base: Base, tmp_path: Path) -> None:
        written(base, tmp_path, prompt="few_shot", shots=20, max_tokens=40)
        for ids in read_rows(tmp_path / "out/sequences.jsonl")["input_ids"]:
            assert len(ids) <= 40

    def test_fewer_than_wanted_is_told(self, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = count()
        monkeypatch.setattr(Quotes, "in_text", lambda self, text: "a" if next(seen) % 15 else None)
        summary = written(base, tmp_path, sequences=4)
        assert summary["sequences"] == len(read_rows(tmp_path / "out/sequences.jsonl")) == 3
        assert sum(summary["dropped"].values()) == len(read_rows(tmp_path / "out/dropped.jsonl")) == 37


class TestErrors:
    def test_a_base_that_writes_no_text(self, encoder: Base, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"the base of a classification writes no text; use another source"):
            written(encoder, tmp_path)

    def test_no_start_token(self, base: Base, tmp_path: Path) -> None:
        bare = without_end(tmp_path, base, "bos_token")
        assert start_token(bare.tokenizer(), bare.folder) is None
        with pytest.raises(UserError, match=r"no start token to write from. Set rehearse.prompt: few_shot, or let"):
            written(bare, tmp_path)
        assert written(bare, tmp_path, prompt="few_shot", shots=1, max_tokens=40)["sequences"] == 20

    def test_the_model_s_own_start_token_where_the_tokenizer_names_none(self, base: Base, tmp_path: Path) -> None:
        bare = without_end(tmp_path, base, "bos_token")
        config = json.loads((bare.folder / "config.json").read_text())
        start = base.tokenizer().bos_token_id
        for token, seen in ((start, start), (7, None), (None, None)):  # 7 is a letter: a class's default, not a start
            (bare.folder / "config.json").write_text(json.dumps({**config, "bos_token_id": token}))
            assert start_token(bare.tokenizer(), bare.folder) == seen

    def test_a_base_that_ends_at_once(self, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        end = base.tokenizer().eos_token_id

        def ending(model: Any, tokenizer: Any, starts: list[list[int]], *_: Any) -> list[list[int]]:
            return [[*start, end] for start in starts]

        monkeypatch.setattr("knowtune.models.sample.sample_sequences", ending)
        with pytest.raises(UserError, match="the base ends at once: 64 sequences of it hold no text"):
            written(base, tmp_path)

    def test_all_sequences_quote(self, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Quotes, "in_text", lambda self, text: "a")
        with pytest.raises(UserError, match=r"each of 20 sequences is dropped: .*quotes a measured row"):
            written(base, tmp_path, sequences=2)

    def test_longer_than_the_context(self, base: Base, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"rehearse.max_tokens: got 65; allowed: up to 64, the base's context"):
            written(base, tmp_path, max_tokens=65)

    def test_few_shot_without_rows_or_room(self, base: Base, tmp_path: Path) -> None:
        nothing = Rehearsing(base, Rehearsal(**OPTIONS, prompt="few_shot"), table(), table())  # type: ignore[arg-type]
        with pytest.raises(UserError, match=r"few_shot needs rows that may be replayed"):
            rehearse(nothing, base.model(), tmp_path / "work", tmp_path / "out")
        with pytest.raises(UserError, match=r"rehearse.max_tokens: got 6; allowed: \d+ or more, for row"):
            written(base, tmp_path, prompt="few_shot", max_tokens=6)


class TestSplitByBase:
    def test_rows_are_split_by_what_the_base_has_right(self, base: Base, tmp_path: Path) -> None:
        known, wrong = split_by_base(ROWS, base, base.model(), 4, tmp_path)
        judged = base.task.evaluator.judge(base.model(), base.tokenizer(), ROWS, 4, "")["correct"]
        assert known["id"].tolist() == ROWS["id"][judged].tolist()
        assert wrong["id"].tolist() == ROWS["id"][~judged].tolist()
        assert len(known) > 3
        assert len(wrong) > 3

    def test_it_is_judged_once(self, base: Base, tmp_path: Path) -> None:
        first = split_by_base(ROWS, base, base.model(), 4, tmp_path)
        again = split_by_base(ROWS, base, Named(), 4, tmp_path)
        assert all(one.equals(other) for one, other in zip(first, again, strict=True))

    def test_a_new_head_has_nothing_right_or_wrong(self, encoder: Base, tmp_path: Path) -> None:
        torch.manual_seed(0)
        known, wrong = split_by_base(review_rows(), encoder, encoder.model(), 4, tmp_path)
        assert (len(known), len(wrong)) == (24, 0)

    def test_no_rows_need_no_model(self, base: Base, tmp_path: Path) -> None:
        assert [len(part) for part in split_by_base(table(), base, None, 4, tmp_path)] == [0, 0]


class Named:
    """No model at all: what is judged already asks for none."""

    new_weights: tuple[str, ...] = ()
