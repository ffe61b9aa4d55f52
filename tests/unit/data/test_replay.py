from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pandas as pd
import pytest

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.data.prepare import Prepared, prepare
from knowtune.data.quoting import QUOTING, QUOTING_ROW, count_quoting
from knowtune.data.raw import Raw, texts_table
from knowtune.data.replay import Spare, split_known, split_texts
from knowtune.data.same_prompt import prompt_keys
from knowtune.text.normalize import normal_form
from tests.unit.data.test_prepare import NO_NOISE, limits, raw
from tests.unit.helpers import row, table

Run = Callable[..., Prepared]


def known_rows(facts: int = 20) -> pd.DataFrame:
    """Two rows of each fact; of the first four facts, two by two, one prompt."""
    rows = [row(f"k{i}:{n}", f"What is {i}, {n}? ", f"t{i}", fact=f"fact {i}") for i in range(facts) for n in range(2)]
    shared = [row(f"k{i}:same", f"Who of {i // 2}? ", f"t{i}", fact=f"fact {i}") for i in range(4)]
    return table(*rows, *shared)


def new_rows() -> dict[str, pd.DataFrame]:
    return {
        "train": table(row("new", "A new one? ", "yes", fact="new")),
        "validation": table(row("v", "Is it new? ", "yes", fact="new")),
        "test": table(row("x", "New, is it? ", "yes", fact="new")),
    }


def source(**tables: pd.DataFrame | list[str]) -> Raw:
    return raw(**{**new_rows(), "known": known_rows(), "texts": ["One.", "Two.", "Three.", "one."], **tables})  # type: ignore[arg-type]


@pytest.fixture
def run(base: Base) -> Run:
    def prepared(read: Raw, replay: Spare = Spare(known=0.5, text=0.5)) -> Prepared:  # noqa: B008
        return prepare(read, base, limits(replay=replay), NO_NOISE)

    return prepared


class TestSplitKnown:
    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
    def test_no_fact_and_no_prompt_is_on_both_sides(self, share: float, seed: int) -> None:
        rows = known_rows()
        measured, replay = split_known(rows, new_rows(), share, seed)
        assert sorted([*measured["id"], *replay["id"]]) == sorted(rows["id"])
        assert not set(measured["fact"]) & set(replay["fact"])
        assert not set(prompt_keys(measured)) & set(prompt_keys(replay))
        assert 0 < replay["fact"].nunique() < rows["fact"].nunique()

    def test_facts_are_compared_by_their_normal_form(self) -> None:
        rows = table(*[row(f"{name}{i}", f"{name} {i}", "t", fact=f"{name} {i}") for i in range(8) for name in "aA"])
        measured, replay = split_known(rows, {}, 0.5, 0)
        assert len(replay) == 8
        assert not set(measured["fact"].map(normal_form)) & set(replay["fact"].map(normal_form))

    def test_neither_order_nor_other_facts_decide_and_a_larger_share_contains_a_smaller(self) -> None:
        rows = known_rows()
        parts = [set(split_known(rows, {}, share, 0)[1]["id"]) for share in (0.1, 0.3, 0.6)]
        assert all(few < more for few, more in pairwise(parts))
        assert set(split_known(rows[::-1], {}, 0.3, 0)[1]["id"]) == parts[1]
        assert set(split_known(rows, {}, 0.3, 1)[1]["id"]) != parts[1]

    @pytest.mark.parametrize("role", ["train", "validation", "test"])
    def test_what_is_trained_or_tested_is_not_replayed(self, role: str) -> None:
        rows = known_rows()
        of_fact = table(row("n0", "Another? ", "t", fact="Fact 7"))
        of_prompt = table(row("n1", "what is 8, 1?", "t", fact="new"))
        others = {**new_rows(), role: pd.concat([of_fact, of_prompt])}
        for seed in range(5):
            measured, replay = split_known(rows, others, 0.9, seed)
            assert {"fact 7", "fact 8"} <= set(measured["fact"])
            assert not {"fact 7", "fact 8"} & set(replay["fact"])


class TestSplitTexts:
    @pytest.mark.parametrize("seed", range(5))
    def test_equal_texts_stay_together(self, seed: int) -> None:
        texts = texts_table([f"Text {i % 5}." for i in range(10)] + ["TEXT 0.", "text  1."])
        measured, replay = split_texts(texts, 0.4, seed)
        assert len(measured) + len(replay) == len(texts)
        assert not set(measured["text"].map(normal_form)) & set(replay["text"].map(normal_form))
        assert replay["text"].map(normal_form).nunique() == 2


@pytest.mark.parametrize("num", [1, 2, 3])
def test_one_at_least_measures(num: int) -> None:
    measured, replay = split_known(known_rows().iloc[8:].drop_duplicates("fact").head(num), {}, 0.99, 0)
    assert (len(measured), len(replay)) == (1, num - 1)
    texts, spare = split_texts(texts_table([f"Text {i}." for i in range(num)]), 0.99, 0)
    assert (len(texts), len(spare)) == (1, num - 1)


class TestPrepare:
    def test_without_shares_nothing_is_replayed_and_all_else_is_as_before(self, run: Run) -> None:
        done = run(source(), Spare())
        assert (len(done.replay), len(done.replay_texts)) == (0, 0)
        assert done.replay.columns.tolist() == known_rows().columns.tolist()
        assert (done.test["kind"] == "locality").sum() == len(known_rows())
        assert len(done.retention) == 4
        assert not {"replay", "replay_texts"} & set(done.summary)

    def test_rows_are_measured_replayed_or_counted(self, run: Run) -> None:
        done = run(source())
        measured = done.test[done.test["kind"] == "locality"]
        assert len(measured) + len(done.replay) == len(known_rows())
        assert not set(measured["fact"]) & set(done.replay["fact"])
        assert len(done.retention) + len(done.replay_texts) == 4
        assert (done.summary["replay"], done.summary["replay_texts"]) == (len(done.replay), len(done.replay_texts))
        few = run(source(), Spare(known=0.5, max_known=3))
        assert set(few.replay["id"]) < set(done.replay["id"])
        assert few.summary["not_drawn"] == len(done.replay) - 3

    def test_files_of_one_s_own_are_replayed_whole(self, run: Run) -> None:
        own = table(row("r0", "Mine? ", "yes", fact="mine"), row("r1", "Mine, too? ", "yes", fact="mine"))
        done = run(source(replay=own, replay_texts=["Four.", "Five."]), Spare())
        assert done.replay["id"].tolist() == ["r0", "r1"]
        assert done.replay_texts["text"].tolist() == ["Four.", "Five."]
        assert (done.test["kind"] == "locality").sum() == len(known_rows())

    def test_texts_that_measure_nothing_are_taken_first(self, run: Run) -> None:
        read = source()
        spare = texts_table([f"Spare {i}." for i in range(8)], "replay")
        done = run(Raw(**{**vars(read), "spare_texts": spare}))
        assert len(done.retention) == 4
        assert len(done.replay_texts) == 4
        assert done.replay_texts["text"].str.startswith("Spare ").all()

    @pytest.mark.parametrize(
        ("planted", "named"),
        [
            (row("r", "Mine? ", "yes", fact="FACT 3"), "replay row 'r' is row 'k3:0' of known"),
            (row("r", "what is  3, 1?", "else", fact="mine"), "replay row 'r' is row 'k3:1' of known"),
            (row("k3:0", "Mine? ", "yes", fact="mine"), "replay row 'k3:0' is row 'k3:0' of known"),
            (row("r", "Mine? ", "yes", fact="new"), "replay row 'r' is row 'new' of train"),
            (row("r", "New, is it? ", "yes", fact="mine"), "replay row 'r' is row 'x' of test"),
            (row("r", "is it new?", "yes", fact="mine"), "replay row 'r' is row 'v' of validation"),
        ],
    )
    def test_a_planted_overlap_is_refused_by_name(self, run: Run, planted: list[str], named: str) -> None:
        with pytest.raises(UserError, match="remove them from one of the two") as caught:
            run(source(replay=table(row("fine", "Fine? ", "yes", fact="fine"), planted)), Spare())
        assert named in str(caught.value)
        assert "'fine'" not in str(caught.value)

    def test_of_many_overlaps_some_are_named(self, run: Run) -> None:
        with pytest.raises(UserError, match="and 41 more replay rows are of known"):
            run(source(replay=known_rows().assign(id="r" + known_rows()["id"])), Spare())

    def test_a_text_that_is_measured_too_is_refused_by_name(self, run: Run) -> None:
        with pytest.raises(UserError, match="remove them from one of the two") as caught:
            run(source(replay_texts=["Fine.", " two."]), Spare())
        assert "1 texts of source.replay_text" in str(caught.value)
        assert "replay text 'replay:1' is general text 'text:1'" in str(caught.value)

    def test_a_text_that_quotes_a_measured_fact_is_rejected_under_it(self, run: Run) -> None:
        stated = ["Fine.", "S said yes, it is new.", *(f"Of s, number {i}: T{i}, of course" for i in range(20))]
        done = run(source(replay_texts=stated), Spare(known=0.5))
        measured = done.test.loc[done.test["kind"] == "locality", "fact"].drop_duplicates().tolist()
        assert done.rejected["fact"].tolist() == ["new", *measured]
        assert set(done.rejected["reason"]) == {QUOTING}
        assert done.rejected["id"].tolist() == ["replay:1", *(f"replay:{2 + int(f.split()[1])}" for f in measured)]
        assert len(done.replay_texts) == 22 - done.summary["rejected"] == done.summary["replay_texts"] == 10
        assert count_quoting(done.rejected) == [
            "12 texts for replay are rejected, for they quote a measured fact: 'replay:1' the fact 'new', for instance"
        ]
        assert count_quoting(run(source(replay_texts=["Fine."])).rejected) == []


class TestRowsWithoutNamesOfFacts:
    """Each row is a fact by itself, so two paraphrases of one may fall apart."""

    def paraphrases(self) -> pd.DataFrame:
        forms = ["The capital of {} is", "{} has as its capital", "Where {} is ruled from:"]
        rows = [(f"k{i}:{n}", form.format(f"C{i}")) for i in range(8) for n, form in enumerate(forms)]
        return table(*(row(name, prompt, f"T{name[1]}", subject=f"C{name[1]}", fact=name) for name, prompt in rows))

    def source(self, **tables: pd.DataFrame) -> Raw:
        return replace(source(**{"known": self.paraphrases(), "texts": [], **tables}), by_fact=False)

    def test_a_paraphrase_of_what_measures_is_left_out_and_counted(self, run: Run) -> None:
        done = run(self.source())
        measured, replayed = done.test.loc[done.test["kind"] == "locality"], done.replay
        gone = done.rejected
        assert set(gone["reason"]) == {QUOTING_ROW}
        assert set(replayed["subject"]) | set(measured["subject"]) == {f"C{i}" for i in range(8)}
        assert set(gone["subject"]) <= set(measured["subject"])
        assert set(gone["fact"]) <= set(measured["fact"])
        assert not set(replayed["subject"]) & set(measured["subject"])
        assert 0 < len(replayed) == done.summary["replay"] == 24 - len(measured) - len(gone)
        (line,) = count_quoting(gone)
        assert line.startswith(f"{len(gone)} known rows for replay are rejected, for they quote a measured fact: 'k")
        assert line.endswith("; with a column for `source.columns.fact`, rows of one fact stay together")

    def test_names_of_facts_decide_where_there_are_some(self, run: Run) -> None:
        done = run(replace(self.source(), by_fact=True))
        assert done.rejected.empty
        assert done.summary["replay"] == 12

    def test_in_a_file_of_one_s_own_it_is_refused_by_name(self, run: Run) -> None:
        own = [row(f"r{i}", f"C{i}, whose capital is", f"T{i}", subject=f"C{i}", fact=f"r{i}") for i in range(8)]
        other = row("fine", "C1 is the neighbour of", "T2", subject="C1", fact="fine")
        with pytest.raises(UserError, match="remove them from one of the two; with a column") as caught:
            run(self.source(replay=table(other, *own)), Spare())
        lines = str(caught.value).splitlines()
        assert lines[1:] == [
            *(f"  replay row 'r{i}' quotes the measured row 'k{i}:0'" for i in range(3)),
            "  and 5 more replay rows quote measured ones",
        ]
        done = run(self.source(replay=table(other)), Spare())
        assert done.replay["id"].tolist() == ["fine"]

    def without_subjects(self) -> pd.DataFrame:
        return self.paraphrases().assign(subject="")

    @pytest.mark.parametrize("seed", range(5))
    def test_without_subjects_rows_of_one_answer_stay_together(self, run: Run, base: Base, seed: int) -> None:
        read = self.source(known=self.without_subjects())
        done = prepare(read, base, replace(limits(replay=Spare(known=0.5)), seed=seed), NO_NOISE)
        measured = done.test.loc[done.test["kind"] == "locality"]
        assert (len(measured), len(done.replay), done.rejected.empty) == (12, 12, True)
        assert not set(measured["target"]) & set(done.replay["target"])
        (line,) = done.cautions
        assert "so all rows of an answer are replayed or all measure: 12 of 24 may be replayed" in line

    def test_aliases_are_answers_too(self, run: Run) -> None:
        known = self.without_subjects()
        known.loc[known["id"].str.endswith(":2"), "target"] = "else"
        known.loc[known["id"].str.endswith(":2"), "aliases"] = known["target"].shift(1)
        known.loc[known["id"] == "k3:1", "target"] = "ELSE"
        done = run(self.source(known=known))
        assert done.replay.empty  # all rows are linked by `else`, and one group at least measures
        assert "0 of 24 may be replayed" in done.cautions[0]

    def test_one_row_without_a_subject_lets_answers_decide(self, run: Run) -> None:
        known = self.paraphrases()
        known.loc[known["id"] == "k3:1", "subject"] = " "
        done = run(self.source(known=known))
        assert not set(done.test.loc[done.test["kind"] == "locality", "target"]) & set(done.replay["target"])
        assert done.summary["replay"] == 12

    def test_of_a_file_of_one_s_own_the_measured_answers_are_counted(self, run: Run) -> None:
        own = table(
            row("r0", "Where C1's king sits:", "t1", fact="r0"), row("r1", "Where C9's king sits:", "T9", fact="r1")
        )
        done = run(self.source(known=self.without_subjects(), replay=own), Spare())
        assert done.replay["id"].tolist() == ["r0", "r1"]
        (line,) = done.cautions
        assert line.startswith(
            "1 of 2 rows of source.files.replay have the answer of a measured row, 'r0' for instance;"
        )
        other = table(row("r2", "Where C9's queen sits:", "T1", subject="C9", fact="r2"))
        named = run(self.source(replay=other), Spare())
        assert named.cautions == []
