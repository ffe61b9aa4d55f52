from __future__ import annotations

import pandas as pd

from knowtune.evaluation.interference import interference

KINDS = ["generalisation"] * 6 + ["reliability"]


def results(*correct: int) -> pd.DataFrame:
    """Three facts of each of two relations, and a trained paraphrase that does not count."""
    relations = ["town"] * 3 + ["colour"] * 3 + ["town"]
    return pd.DataFrame({"kind": KINDS, "relation": relations, "correct": [bool(c) for c in (*correct, 1)], "seed": 0})


TOWNS, COLOURS = results(1, 1, 1, 0, 0, 0), results(0, 0, 0, 1, 1, 0)
ALONE = {"towns": ["town"], "colours": ["colour"]}


def test_a_relation_is_compared_with_the_run_that_learned_it_alone() -> None:
    models = {"towns": TOWNS, "colours": COLOURS, "both": results(1, 0, 0, 1, 1, 1), "soup": results(1, 1, 1, 0, 1, 1)}
    found = interference(models, ALONE)
    assert found is not None
    assert found.head == ["relation", "learned alone by", "right alone", "both", "soup"]
    assert found.rows == [
        ["town", "towns", "100.0 %", "33.3 % (-66.7)", "100.0 % (+0.0)"],
        ["colour", "colours", "66.7 %", "100.0 % (+33.3)", "66.7 % (+0.0)"],
        ["all of them", "each its own", "83.3 %", "66.7 % (-16.7)", "83.3 % (+0.0)"],
    ]


def test_of_two_runs_that_of_fewer_relations_counts_and_seeds_are_averaged() -> None:
    wide = results(0, 0, 0, 0, 0, 0)
    seeds = pd.concat([COLOURS, results(0, 0, 0, 0, 0, 0).assign(seed=1)])
    found = interference(
        {"wide": wide, "colours": seeds, "both": TOWNS}, {"wide": ["town", "colour"], "colours": ["colour"]}
    )
    assert found is not None
    assert [row[:3] for row in found.rows[:2]] == [["town", "wide", "0.0 %"], ["colour", "colours", "33.3 %"]]


def test_a_run_of_what_others_learned_with_fewer_stands_beside_them() -> None:
    models = {"towns": TOWNS, "colours": COLOURS, "both": results(1, 0, 0, 1, 1, 1)}
    found = interference(models, {**ALONE, "both": ["town", "colour"]})
    assert found is not None
    assert found.head[3:] == ["both"]


def test_a_relation_without_examples_has_dashes() -> None:
    found = interference({"towns": TOWNS, "rivers": TOWNS, "both": TOWNS}, {"towns": ["town"], "rivers": ["river"]})
    assert found is not None
    assert found.rows[1] == ["river", "rivers", "–", "–"]


def test_no_table_where_nothing_was_learned_alone_or_nothing_beside() -> None:
    assert interference({"both": TOWNS}, {}) is None
    assert interference({"towns": TOWNS, "colours": COLOURS}, ALONE) is None
