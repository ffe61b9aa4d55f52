from __future__ import annotations

from typing import Any

from knowtune.evaluation.leaderboard import Entry, leaderboard_markdown, leaderboard_rows
from knowtune.evaluation.retention_columns import SetColumn, set_rows

FACTS = SetColumn("capitals", {"kind": "facts", "num": 80, "right": 60, "level": 0.75, "noise": 0.0125, "rejected": 0})
TEXT = SetColumn("stories", {"kind": "text", "num": 30, "level": 1.7521, "noise": 0.0004, "rejected": 2})


def interval(mean: float, half_width: float | None = None) -> dict[str, Any]:
    return {"mean": mean, "half_width": half_width, "n": 1 if half_width is None else 3}


def test_a_difference_is_signed_in_points_with_the_noise_beside_it() -> None:
    assert FACTS.cell(interval(-0.123, 0.04)) == "-12.3 ± 4.0 [1.2]"
    assert FACTS.cell(interval(-1e-9)) == "+0.0 [1.2]"
    assert FACTS.cell(None) == "–"


def test_a_difference_of_texts_is_in_nats() -> None:
    assert TEXT.cell(interval(0.25, 0.1)) == "+0.250 ± 0.100 [0.000]"


def test_columns_follow_the_metrics() -> None:
    entry = Entry("lora", "lora", 5, 1e-6, {"known": interval(0.5), "capitals": interval(-0.1)})
    head, rows = leaderboard_rows([entry], ["known"], [FACTS, TEXT])
    assert head == ["name", "what", "trained", "known ↑", "capitals ↑", "stories ↓", "parity"]
    assert rows[0][3:] == ["50.0 %", "-10.0 [1.2]", "–", "1.0e-06"]
    text = leaderboard_markdown([entry], ["known"], sets=[FACTS, TEXT])
    assert text.endswith(
        "- capitals ↑: facts right, change against the base, in brackets the noise floor; the base has 60 of 80 right "
        "(points)\n"
        "- stories ↓: change of loss against the base, in brackets the noise floor; the base reads 30 texts with 1.752 "
        "(nats per token)\n"
    )


def test_cautions() -> None:
    assert FACTS.caution() is None
    assert TEXT.caution() == "2 rows of stories could not be used, see rejected.jsonl"
    none = SetColumn("x", {**FACTS.base, "right": 0})
    assert none.caution() == "the base has none of the 80 rows of x right: nothing can be lost there"


def test_what_was_lost_and_gained_is_a_table() -> None:
    found = {"change": interval(-0.1), "lost": interval(0.2), "gained": interval(0.05)}
    assert set_rows([FACTS, TEXT], {"lora": {"capitals": found, "stories": {"change": interval(0.5)}}}) == [
        ["capitals", "lora", "-10.0 [1.2]", "20.0 %", "5.0 %"],
        ["stories", "lora", "+0.500 [0.000]", "–", "–"],
    ]
