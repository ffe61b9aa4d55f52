from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.data.contract import ROLES, ROW_COLUMNS
from knowtune.data.prepare import Limits, Prepared, prepare
from knowtune.data.raw import Raw, texts_table
from knowtune.data.rejection import RejectedError
from knowtune.data.same_prompt import share_answers
from knowtune.filters.clean import Clean
from knowtune.tasks.regression import Regression
from tests.unit.helpers import row, seen_of, table

NO_NOISE = {"wrong": 0.0, "contradictions": 0.0, "duplicates": 0.0, "empties": 0.0}
Run = Callable[..., Prepared]
Refused = Callable[..., str]


def raw(
    train: pd.DataFrame,
    test: pd.DataFrame,
    known: pd.DataFrame | None = None,
    validation: pd.DataFrame | None = None,
    texts: list[str] | None = None,
    by_fact: bool = True,
    replay: pd.DataFrame | None = None,
    replay_texts: list[str] | None = None,
) -> Raw:
    tables = [table() if made is None else made for made in (train, validation, test, known, replay)]
    read = [made if "reason" in made else made.assign(reason=pd.Series("", made.index, dtype="str")) for made in tables]
    return Raw(*read, texts_table(texts or []), texts_table(replay_texts or [], "replay"), by_fact=by_fact)


def limits(**changes: Any) -> Limits:
    nothing = {
        "seed": 0,
        "max_facts": None,
        "max_known": None,
        "max_texts": None,
        "max_examples": None,
        "max_rejected": 0.0,
    }
    return Limits(**{**nothing, **changes})  # type: ignore[arg-type]


@pytest.fixture
def run(base: Base) -> Run:
    """Prepare with a base; what it does not say is without limit or noise."""

    def prepared(source: Raw, noise: dict[str, float] = NO_NOISE, base: Base = base, **changes: Any) -> Prepared:
        several = changes.pop("several_answers", False)
        return prepare(source, base, limits(**changes), noise, several_answers=several)

    return prepared


@pytest.fixture
def refused(run: Run) -> Refused:
    """Prepare what cannot be prepared."""

    def message(*args: Any, **options: Any) -> str:
        with pytest.raises(UserError) as caught:
            run(*args, **options)
        return str(caught.value)

    return message


def facts(num: int) -> Raw:
    def worded(kind: str) -> pd.DataFrame:
        return table(*(row(f"{kind}:{i}", f"{kind} {i}", f"t{i}", fact=f"f{i}") for i in range(num)))

    known = table(*(row(f"known:{i}", f"known {i}", f"k{i}", fact=f"k{i}") for i in range(num)))
    return raw(worded("train"), worded("test"), known, worded("validation"), [f"Text {i}." for i in range(num)])


def reviews(num: int, labels: int = 2) -> Raw:
    """Training rows alone, of no fact; label number 0 has the most, each further one half as many."""
    share = [2**-i for i in range(labels)]
    ends = [num * sum(share[: i + 1]) / sum(share) for i in range(labels)]
    label = [next(n for n, end in enumerate(ends) if i < end + 1e-9) for i in range(num)]
    names = ["bad", "good"] if labels == 2 else [f"l{n}" for n in range(labels)]
    rows = [row(f"r{i}", f"review {i}", names[label[i]], fact=f"r{i}") for i in range(num)]
    return raw(table(*rows), table(), texts=["Text."], by_fact=False)


def unknown_letters(base: Base, folder: Path) -> Base:
    """A base whose tokenizer drops what is not ASCII."""
    import json
    import shutil

    shutil.copytree(base.folder, folder)
    written = json.loads((folder / "tokenizer.json").read_text())
    written["normalizer"] = {"type": "Replace", "pattern": {"Regex": "[^\\x00-\\x7f]"}, "content": ""}
    (folder / "tokenizer.json").write_text(json.dumps(written))
    return replace(base, folder=folder)


class TestPrepare:
    def test_the_tables(self, run: Run) -> None:
        done = run(facts(3))
        assert done.train["id"].tolist() == ["train:0", "train:1", "train:2"]
        assert done.validation["id"].tolist() == ["validation:0", "validation:1", "validation:2"]
        assert done.test[["id", "kind"]].to_numpy().tolist() == [
            *([f"train:{i}", "reliability"] for i in range(3)),
            *([f"test:{i}", "generalisation"] for i in range(3)),
            *([f"known:{i}", "locality"] for i in range(3)),
        ]
        assert done.retention["text"].tolist() == ["Text 0.", "Text 1.", "Text 2."]
        assert (len(done.rejected), len(done.label_noise)) == (0, 0)
        assert done.summary == {
            "facts": 3, "train": 3, "validation": 3, "retention": 3, "rejected": 0, "not_drawn": 0, "label_noise": {},
            "test": {"generalisation": 3, "locality": 3, "reliability": 3},
        }  # fmt: skip

    def test_empty_targets_and_prompts_are_rejected_with_reason(self, run: Run) -> None:
        train = table(row("a", "p", "t", fact="f"), row("b", "", "t", fact="f"), row("c", "q", "", fact="f"))
        known = table(row("k", "k?", "", fact="k"))
        done = run(raw(train, table(row("x", "x?", "t", fact="f")), known), max_rejected=0.9)
        assert done.rejected[["id", "reason"]].to_numpy().tolist() == [
            ["b", "train: the prompt is empty"],
            ["c", "train: the target is empty"],
            ["k", "known: the target is empty"],
        ]
        assert done.train["id"].tolist() == ["a"]
        assert done.summary["rejected"] == 3

    def test_too_many_rejects(self, run: Run, refused: Refused) -> None:
        rows = [row(f"bad{i}", f"p{i}", "", fact="f") for i in range(6)]
        source = raw(table(*rows, row("a", "p", "t", fact="f")), table(row("x", "x?", "t", fact="f")))
        assert refused(source, max_rejected=0.5) == (
            "prepare: 6 of 8 rows are rejected; allowed: a share of 0.5 (prepare.max_rejected)\n"
            "  6: train: the target is empty; e.g. row 'bad0': prompt 'p0'"
        )
        assert len(run(source, max_rejected=0.75).rejected) == 6

    def test_duplicate_ids(self, refused: Refused) -> None:
        train = table(row("a", "p", "t"), row("a", "q", "t"), row("b", "r", "t"), row("b", "s", "t"))
        assert refused(raw(train, table(row("x", "x?", "t")))) == (
            "prepare: train: 2 ids are given twice, e.g. 'a'; ids must be unique"
        )

    @pytest.mark.parametrize("role", ["validation", "test", "known"])
    def test_a_row_both_trained_and_tested(self, role: str, refused: Refused) -> None:
        tables = {"test": table(row("x", "x?", "t")), role: table(row("a", "y?", "t"))}
        message = refused(raw(table(row("a", "p", "t")), **tables))
        assert message == f"prepare: 1 rows are in both train and {role}, e.g. 'a'; remove them from one of the two"

    def test_an_id_of_a_test_row_among_the_known(self, refused: Refused) -> None:
        source = raw(table(row("a", "p", "t")), table(row("x", "x?", "t")), table(row("x", "k?", "t")))
        assert refused(source) == (
            "prepare: test: not valid evaluation examples\n"
            "  id: field_uniqueness fails 2 times (row 1: 'x', row 2: 'x')"
        )

    @pytest.mark.parametrize(
        "spelling",
        [
            "the CAPITAL of são tomé is",
            "The  capital of São\u00a0Tomé is",
            "The capital of Sa\u0303o Tome\u0301 is\u200b",
        ],
    )
    def test_a_trained_prompt_in_another_spelling_is_rejected(self, spelling: str, run: Run) -> None:
        train, test = table(row("a", "The capital of São Tomé is ", "t")), table(row("x", "x?", "t"))
        done = run(raw(train, pd.concat([test, table(row("y", spelling, "t"))], ignore_index=True)), max_rejected=0.5)
        assert done.rejected[["id", "reason"]].to_numpy().tolist() == [["y", "test: the prompt is trained too"]]

    @pytest.mark.parametrize("role", ["validation", "test", "known"])
    def test_a_prompt_that_is_trained_too_is_rejected(self, role: str, run: Run, refused: Refused) -> None:
        tables = {"test": table(row("x", "x?", "t")), "validation": table(), "known": table()}
        tables[role] = pd.concat([tables[role], table(row("y", "p", "t"))], ignore_index=True)
        source = raw(table(row("a", "p", "t")), **tables)
        done = run(source, max_rejected=0.5)
        assert done.rejected[["id", "reason"]].to_numpy().tolist() == [["y", f"{role}: the prompt is trained too"]]
        assert done.test["id"].tolist() == ["a", "x"]
        assert len(done.validation) == 0
        assert refused(source) == (
            "prepare: 1 of 3 rows are rejected; allowed: a share of 0.0 (prepare.max_rejected)\n"
            f"  1: {role}: the prompt is trained too; e.g. row 'y': prompt 'p', target 't'"
        )

    def test_no_fact_is_tested(self, refused: Refused) -> None:
        source = raw(table(row("a", "p", "t", fact="f")), table(row("x", "x?", "t", fact="g")))
        expected = "prepare: no fact of the training rows is in the test rows; check the `fact` column mapping"
        assert refused(source) == expected

    def test_a_fact_tested_but_not_trained_is_not_lost_without_a_word(self, run: Run) -> None:
        test = table(row("x", "x?", "t", fact="f"), row("y", "y?", "t", fact="never trained"))
        done = run(raw(table(row("a", "p", "t", fact="f")), test), max_rejected=0.5)
        assert done.rejected[["id", "reason"]].to_numpy().tolist() == [["y", "test: no training row has its fact"]]
        assert done.test["id"].tolist() == ["a", "x"]

    def test_a_blank_text_is_not_lost_without_a_word(self, run: Run) -> None:
        source = raw(table(row("a", "p", "t")), table(row("x", "x?", "t")), texts=["One.", "  "])
        done = run(source, max_rejected=0.5)
        assert len(done.retention) + int(done.rejected["id"].eq("text:1").sum()) == 2

    def test_max_facts_keeps_the_same_facts_in_all_tables(self, run: Run) -> None:
        done = run(facts(10), max_facts=4)
        kept = set(done.train["fact"])
        assert len(kept) == done.summary["facts"] == 4
        assert set(done.validation["fact"]) == kept
        assert set(done.test.loc[done.test["kind"] == "generalisation", "fact"]) == kept
        assert set(done.test.loc[done.test["kind"] == "reliability", "fact"]) == kept
        assert (done.test["kind"] == "locality").sum() == 10

    def test_more_facts_contain_fewer(self, run: Run) -> None:
        few, more = (set(run(facts(10), max_facts=n).train["fact"]) for n in (3, 6))
        assert few < more

    def test_another_seed_keeps_other_facts(self, run: Run) -> None:
        assert set(run(facts(20), max_facts=5).train["fact"]) != set(run(facts(20), max_facts=5, seed=1).train["fact"])

    def test_the_order_read_does_not_choose(self, run: Run) -> None:
        source = facts(10)
        turned = Raw(*(getattr(source, f)[::-1] for f in (*ROLES, "texts", "replay_texts")), by_fact=True)
        options = {"max_facts": 4, "max_known": 3, "max_texts": 2}
        one, two = run(source, **options), run(turned, **options)
        for name in ("train", "validation", "test", "retention"):
            assert set(getattr(one, name)["id"]) == set(getattr(two, name)["id"])

    def test_max_known_and_max_texts(self, run: Run) -> None:
        done = run(facts(10), max_known=3, max_texts=2)
        assert (done.test["kind"] == "locality").sum() == 3
        assert len(done.retention) == 2

    def test_injected_noise_is_counted_and_apart(self, run: Run) -> None:
        done = run(facts(20), noise={**NO_NOISE, "duplicates": 0.1, "empties": 0.05})
        assert done.summary["label_noise"] == {"duplicate": 2, "empty": 1}
        assert done.summary["train"] == len(done.train) == 22
        assert (done.test["kind"] == "reliability").sum() == 20
        assert (done.test["target"] != "").all()

    def test_no_training_row(self, refused: Refused) -> None:
        assert "no fact of the training rows" in refused(raw(table(), table(row("x", "x?", "t"))))


def counts(source: Raw) -> dict[str, int]:
    return {role: len(getattr(source, role)) for role in ROLES}


class TestJudging:
    def test_a_reason_of_the_reader_stays(self, run: Run) -> None:
        train = table(row("a", "p", "t"), row("b", "", "")).assign(reason=["", "messages: fewer than two"])
        done = run(raw(train, table(row("x", "x?", "t"))), max_rejected=0.5)
        assert done.rejected[["id", "reason"]].to_numpy().tolist() == [["b", "train: messages: fewer than two"]]
        assert done.train.columns.tolist() == ROW_COLUMNS

    @pytest.mark.parametrize("prompt", ["qz " * 40, "é" * 40, "q" * 62, "q" * 61])
    def test_a_row_longer_than_the_context(self, base: Base, run: Run, prompt: str) -> None:
        train = table(row("a", "p ", "t", fact="f"), row("long", prompt, "t", fact="f"))
        length = len(base.task.encode(base.tokenizer(), train)[1].input_ids)
        done = run(raw(train, table(row("x", "x?", "t", fact="f"))), max_rejected=0.5)
        if length > 64:
            assert done.rejected[["id", "reason"]].to_numpy().tolist() == [
                ["long", f"train: {length} tokens, and the base's context is 64"]
            ]
        else:
            assert done.train["id"].tolist() == ["a", "long"]

    def test_every_row_that_is_kept_fits_and_every_one_that_is_not_does_not(self, base: Base, run: Run) -> None:
        rows = [row(f"{kind}{n}", kind * n, "t", fact="f") for kind in "qzé\n 😀" for n in range(10, 70)]
        done = run(
            raw(table(row("a", "p", "t", fact="f"), *rows), table(row("x", "x?", "t", fact="f"))), max_rejected=1
        )
        tokenizer = base.tokenizer()
        assert max(len(r.input_ids) for r in base.task.encode(tokenizer, done.train)) == 64
        long = done.rejected[done.rejected["reason"].str.contains("context")]
        assert min(len(r.input_ids) for r in base.task.encode(tokenizer, long)) == 65
        assert len(done.train) + len(done.rejected) == 361

    def test_a_target_without_a_token_is_rejected(self, base: Base, run: Run, tmp_path: Path) -> None:
        deaf = unknown_letters(base, tmp_path / "base")
        train = table(
            row("a", "p ", "t", fact="f"),
            row("b", "q ", "é😀", fact="f"),
            row("c", "r ", "é😀", fact="f"),
            row("d", "s ", "née", fact="f"),
        )
        done = run(raw(train, table(row("x", "x? ", "é", fact="f"), row("y", "y? ", "t", fact="f"))), base=deaf,
                   max_rejected=0.5)  # fmt: skip
        reason = "the target has no token in the base's vocabulary"
        assert done.rejected[["id", "reason"]].to_numpy().tolist() == [
            ["b", f"train: {reason}"], ["c", f"train: {reason}"], ["x", f"test: {reason}"]
        ]  # fmt: skip
        assert done.train["id"].tolist() == ["a", "d"]

    def test_no_limit_where_the_base_has_none(self, base: Base, run: Run) -> None:
        endless = replace(base, card={**base.card, "context": None})
        train = table(row("a", "q" * 500, "t"))
        assert run(raw(train, table(row("x", "x?", "t"))), base=endless).train["id"].tolist() == ["a"]

    @pytest.mark.parametrize("prompt", [" ", "\n"])
    def test_a_blank_prompt_is_empty(self, run: Run, prompt: str) -> None:
        train = table(row("a", "p", "t", fact="f"), row("b", prompt, "t", fact="f"))
        done = run(raw(train, table(row("x", "x?", "t", fact="f"))), max_rejected=0.5)
        assert done.rejected["reason"].tolist() == ["train: the prompt is empty"]

    def test_too_long_rows_of_unequal_length_are_counted_as_one_reason(self, refused: Refused) -> None:
        rows = [row(f"b{i}", "qz " * (40 + i), "t", fact="f") for i in range(5)]
        source = raw(table(*rows, row("a", "p", "t", fact="f")), table(row("x", "x?", "t", fact="f")))
        message = refused(source, max_rejected=0.5)
        assert "\n  5: train: too many tokens, and the base's context is 64; e.g. row 'b0': prompt 'qz qz " in message
        assert max(map(len, message.splitlines())) < 200

    def test_kept_and_rejected_are_what_was_read(self, run: Run) -> None:
        def some(kind: str, of: str = "f") -> pd.DataFrame:
            good = [row(f"{kind}{i}", f"{kind} {i}", "t", fact=f"{of}{i}") for i in range(4)]
            bad = [row(f"{kind}e", f"{kind} e", "", fact=f"{of}0"), row(f"{kind}l", "q" * 90, "t", fact=f"{of}0")]
            return table(*good, *bad, row(f"{kind}b", "", "t", fact=f"{of}1"))

        source = raw(some("train"), some("test"), some("known"), some("validation"), ["One.", "", "Two."],
                     replay=some("replay", of="g"), replay_texts=["", "Three."])  # fmt: skip
        done = run(source, max_rejected=1.0)
        gone = Counter(done.rejected["reason"].str.partition(":")[0])
        kinds = done.test["kind"].value_counts()
        kept = {
            "train": len(done.train), "validation": len(done.validation), "test": kinds["generalisation"],
            "known": kinds["locality"], "replay": len(done.replay),
        }  # fmt: skip
        assert {role: kept[role] + gone[role] for role in ROLES} == counts(source)
        assert len(done.retention) + gone["retention"] == 3
        assert len(done.replay_texts) + gone["replay text"] == 2
        assert done.summary["rejected"] == len(done.rejected) == 17


class TestLimits:
    def test_max_examples_is_per_kind(self, run: Run) -> None:
        done = run(facts(10), max_examples=3, max_known=5)
        assert done.summary["test"] == {"generalisation": 3, "locality": 5, "reliability": 3}
        assert (len(done.train), len(done.validation)) == (10, 10)

    def test_more_examples_contain_fewer(self, run: Run) -> None:
        few, more = (set(run(facts(10), max_examples=n).test["id"]) for n in (2, 5))
        assert few < more

    def test_what_is_not_drawn_is_counted(self, run: Run) -> None:
        done = run(facts(10), max_facts=4, max_known=3)
        assert done.summary["not_drawn"] == 3 * (10 - 4) + (10 - 3)

    def test_rows_of_no_fact_are_drawn_one_by_one(self, decoder: Base, run: Run) -> None:
        source = replace(reviews(20), test=reviews(6).train.assign(id=list("abcdef"), prompt=list("abcdef")))
        done = run(source, base=decoder, max_facts=5)
        assert (len(done.train), done.summary["test"]) == (5, {"generalisation": 6})


class TestTextPair:
    def test_the_same_text_beside_another_is_another_question(self, run: Run) -> None:
        train = table(row("a", "p", "t", fact="f", pair="one"))
        test = table(row("x", "p", "t", fact="f", pair="two"), row("y", "p", "t", fact="f", pair="one"))
        done = run(raw(train, test), max_rejected=0.5)
        assert done.rejected[["id", "reason"]].to_numpy().tolist() == [["y", "test: the prompt is trained too"]]
        assert done.test["id"].tolist() == ["a", "x"]

    def test_where_one_text_ends_makes_a_difference(self, run: Run) -> None:
        train = table(row("a", "p q", "t", fact="f", pair="r"))
        done = run(raw(train, table(row("x", "p", "t", fact="f", pair="q r"))))
        assert done.test["id"].tolist() == ["a", "x"]


class TestTasks:
    def test_a_classifier_is_judged_on_held_out_rows_alone(self, decoder: Base, run: Run) -> None:
        source = replace(reviews(8), test=reviews(4).train.assign(id=list("abcd"), prompt=list("abcd")))
        done = run(source, base=decoder)
        assert done.test["kind"].tolist() == ["generalisation"] * 4

    def test_a_row_without_label_is_rejected(self, decoder: Base, run: Run) -> None:
        source = reviews(8)
        source.train.loc[3, "target"] = ""
        done = run(source, base=decoder, max_rejected=0.5)
        assert done.rejected[["id", "reason"]].to_numpy().tolist() == [["r3", "train: the target is empty"]]

    def test_a_classifiers_row_longer_than_the_context(self, encoder: Base, run: Run) -> None:
        source = reviews(4)
        source.train.loc[[1, 2], "prompt"] = ["very " * 30, "very " * 30]
        source.train.loc[1, "text_pair"] = "good " * 15
        source.train.loc[2, "text_pair"] = "good " * 16
        done = run(source, base=encoder, max_rejected=0.5)
        reason = "train: 49 tokens, and the base's context is 48"
        assert done.rejected[["id", "reason"]].to_numpy().tolist() == [["r2", reason]]
        assert "r1" in done.train["id"].tolist()

    def test_scores(self, encoder: Base, run: Run) -> None:
        source = reviews(6)
        source.train["target"] = ["0", "1.5", "-2", "3", "4", ""]
        done = run(source, base=replace(encoder, task=Regression()), max_rejected=0.5)
        assert done.train["target"].tolist() == ["0", "1.5", "-2", "3", "4"]
        assert done.rejected["reason"].tolist() == ["train: the target is empty"]


class TestTooMany:
    def test_general_texts_are_counted_for_themselves(self, refused: Refused) -> None:
        rows = [row(f"r{i}", f"p{i}", "t" if i else "", fact="f") for i in range(4)]
        source = raw(table(*rows), table(), texts=[f"Text {i}." for i in range(96)], by_fact=False)
        assert refused(source, max_rejected=0.02).startswith(
            "prepare: 1 of 4 rows are rejected; allowed: a share of 0.02"
        )
        source = raw(table(*rows[1:]), table(), texts=["", "Text."], by_fact=False)
        assert refused(source, max_rejected=0.3).startswith(
            "prepare: 1 of 2 general texts are rejected; allowed: a share"
        )


class TestNothingLeft:
    def test_it_says_why_by_reason_with_an_example(self, run: Run) -> None:
        train = table(*(row(f"b{i}", f"p{i}", "", fact="f") for i in range(3)), row("c", "", "t"))
        train["reason"] = ["", "", "messages: the last is by 'user', not by 'assistant'", ""]
        with pytest.raises(RejectedError) as caught:
            run(raw(train, table(), by_fact=False), max_rejected=1.0)
        assert str(caught.value) == (
            "prepare: 4 of 4 rows are rejected, and no training row is left; look at the source and at its column "
            "mapping\n"
            "  2: train: the target is empty; e.g. row 'b0': prompt 'p0'\n"
            "  1: train: messages: the last is by 'user', not by 'assistant'; e.g. row 'b2': prompt 'p2'\n"
            "  1: train: the prompt is empty; e.g. row 'c': target 't'"
        )
        assert caught.value.rejected["id"].tolist() == ["b0", "b1", "b2", "c"]


def references(prompts: int, each: int) -> Raw:
    rows = [
        row(f"r{p}:{i}", f"name[{p}]", f"{p} in words {i}", fact=f"r{p}:{i}")
        for p in range(prompts)
        for i in range(each)
    ]
    return raw(table(*rows), table(), texts=["Text."], by_fact=False)


class TestSeveralAnswers:
    def test_a_prompt_goes_with_all_its_rows(self, run: Run) -> None:
        done = run(references(8, 5), test=0.1, validation=0.05, several_answers=True)
        assert len(done.rejected) == 0
        assert (len(done.train), len(done.validation)) == (30, 5)  # a prompt each, though two rows were wanted
        judged = done.test[done.test["kind"] == "generalisation"]
        parts = [set(t["prompt"]) for t in (done.train, done.validation, judged)]
        assert [len(part) for part in parts] == [6, 1, 1]
        assert len(set.union(*parts)) == 8

    def test_each_row_is_learned_and_one_of_a_prompt_judged(self, run: Run) -> None:
        done = run(references(4, 3), test=0.25, several_answers=True)
        assert done.train.groupby("prompt")["target"].nunique().tolist() == [3, 3, 3]
        assert done.summary["test"] == {"generalisation": 1, "reliability": 3}
        item = done.test.iloc[0]
        name = item["prompt"].removeprefix("name[").removesuffix("]")
        assert [item["target"], *item["aliases"].split("\n")] == [f"{name} in words {i}" for i in range(3)]
        second = done.train[done.train["id"].str.endswith(":1")].iloc[0]
        name = second["prompt"].removeprefix("name[").removesuffix("]")
        assert second["aliases"] == f"{name} in words 0\n{name} in words 2"

    def test_the_filter_clean_keeps_them_and_drops_an_injected_contradiction(self, run: Run) -> None:
        def dropped(train: pd.DataFrame) -> list[str]:
            return train["id"][Clean().reasons(train, seen_of(train)) != ""].tolist()

        done = run(references(6, 3), several_answers=True)
        assert dropped(done.train) == []
        assert len(dropped(run(references(6, 3)).train)) == 18
        noisy = run(references(6, 3), noise={**NO_NOISE, "contradictions": 0.05}, several_answers=True)
        assert set(noisy.label_noise["id"]) <= set(dropped(noisy.train))

    def test_own_further_answers_stay_first_and_line_breaks_become_blanks(self) -> None:
        rows = table(row("a", "p", "x"), row("b", "p", "y\nz"), row("c", "p", "x"), row("d", "q", "x"))
        rows.loc[[0, 3], "aliases"] = ["own\nx2", "kept"]
        shared = share_answers(rows, rows["prompt"])
        assert shared["aliases"].tolist() == ["own\nx2\ny z", "x\nown\nx2", "own\nx2\ny z", "kept"]

    def test_a_single_prompt_is_trained(self, run: Run) -> None:
        done = run(references(1, 9), test=0.5, validation=0.4, several_answers=True)
        assert (len(done.train), len(done.validation), done.summary["test"]) == (9, 0, {"reliability": 1})

    def test_paraphrases_of_facts_under_one_prompt_stay_together(self, run: Run) -> None:
        rows = [row(f"{f}:{w}:{i}", f"{f} in words {w}", f"t{f}.{i}", fact=f"f{f}")
                for f in range(6) for w in range(3) for i in range(2)]  # fmt: skip
        done = run(raw(table(*rows), table()), test=0.3, several_answers=True)
        held = done.test[done.test["kind"] == "generalisation"]
        assert (len(done.train), len(held)) == (24, 6)  # twelve rows of six prompts, for eleven are wanted
        assert set(done.train["fact"]) == {f"f{f}" for f in range(6)}
        assert not set(held["prompt"]) & set(done.train["prompt"])


class TestHoldOut:
    def labels(self, done: Prepared) -> dict[str, Counter[str]]:
        test = done.test[done.test["kind"] == "generalisation"]
        tables = {"train": done.train, "validation": done.validation, "test": test}
        return {name: Counter(found["target"]) for name, found in tables.items()}

    def test_labels_keep_their_shares(self, decoder: Base, run: Run) -> None:
        done = run(reviews(90), base=decoder, test=0.2, validation=0.1)
        found = self.labels(done)
        assert [sum(count.values()) for count in found.values()] == [63, 9, 18]
        for name, (bad, good) in {"train": (42, 21), "validation": (6, 3), "test": (12, 6)}.items():
            assert abs(found[name]["bad"] - bad) <= 1 and abs(found[name]["good"] - good) <= 1

    def test_no_row_is_lost_or_twice_there(self, decoder: Base, run: Run) -> None:
        done = run(reviews(50), base=decoder, test=0.3, validation=0.3)
        ids = [*done.train["id"], *done.validation["id"], *done.test["id"]]
        assert sorted(ids) == sorted(reviews(50).train["id"])

    @pytest.mark.parametrize("share", [0.01, 0.1, 0.25])
    def test_many_rare_answers_do_not_swell_what_is_held_out(self, run: Run, share: float) -> None:
        rows = [row(f"r{i}", f"q {i}", "yes" if i < 120 else f"t{i}", fact=f"r{i}") for i in range(200)]
        done = run(raw(table(*rows), table(), by_fact=False), test=share)
        assert (done.test["kind"] == "generalisation").sum() == share * 200

    @pytest.mark.parametrize("num", [10, 100])
    def test_rows_of_answers_that_differ_are_drawn_plainly(self, run: Run, num: int) -> None:
        rows = [row(f"r{i}", f"q {i}", f"t{i}", fact=f"r{i}") for i in range(num)]
        done = run(raw(table(*rows), table(), by_fact=False), test=0.07)
        assert (done.test["kind"] == "generalisation").sum() == -(-7 * num // 100)

    def test_of_a_fact_one_paraphrase_at_least_is_trained(self, run: Run) -> None:
        rows = [
            row(f"{f}:{w}", f"{f} in words {w}", f"t{f}", fact=f"f{f}") for f in range(10) for w in range(1 + f % 3)
        ]
        done = run(raw(table(*rows), table()), test=0.4)
        held = done.test[done.test["kind"] == "generalisation"]
        assert len(held) == 8  # of 19 rows
        assert set(done.train["fact"]) == {f"f{f}" for f in range(10)}
        assert not set(held["id"]) & set(done.train["id"])

    def test_no_more_than_the_further_paraphrases_are_held_out(self, run: Run) -> None:
        rows = [row(f"{f}:{w}", f"{f} in words {w}", f"t{f}", fact=f"f{f}") for f in range(10) for w in range(2)]
        done = run(raw(table(*rows), table()), test=0.9)
        assert (len(done.train), (done.test["kind"] == "generalisation").sum()) == (10, 10)

    def test_a_file_of_its_own_goes_first(self, run: Run) -> None:
        done = run(facts(5), test=0.5, validation=0.5)
        assert (len(done.train), len(done.validation), done.summary["test"]["generalisation"]) == (5, 5, 5)

    def test_same_seed_same_rows_other_seed_others(self, decoder: Base, run: Run) -> None:
        found = [set(run(reviews(40), base=decoder, test=0.2, seed=seed).test["id"]) for seed in (0, 0, 1)]
        assert found[0] == found[1] != found[2]

    def test_the_order_read_does_not_choose(self, decoder: Base, run: Run) -> None:
        source = reviews(40)
        turned = replace(source, train=source.train[::-1].reset_index(drop=True))
        one, two = (run(s, base=decoder, test=0.2, validation=0.1) for s in (source, turned))
        assert set(one.test["id"]) == set(two.test["id"])
        assert set(one.validation["id"]) == set(two.validation["id"])

    def test_the_same_prompt_is_not_trained_and_tested(self, decoder: Base, run: Run) -> None:
        source = reviews(20)
        source.train["prompt"] = [f"review {i // 2}" for i in range(20)]
        done = run(source, base=decoder, test=0.5)
        assert not set(done.train["prompt"]) & set(done.test["prompt"])
        assert (len(done.train), len(done.test), len(done.rejected)) == (10, 10, 0)
