from __future__ import annotations

from decimal import Decimal

import pytest

from knowtune.evaluation.answer_matching import contains, final_number, same_number, token_f1, words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The  Big Apple!", ["big", "apple"]),
        ("a man, an ape", ["man", "ape"]),
        ("state-of-the-art", ["stateoftheart"]),  # as SQuAD's scorer has it
        ("«Élan» ２０２４ Straße", ["élan", "2024", "strasse"]),
        ("東京タワー 3", ["東", "京", "タ", "ワ", "ー", "3"]),
        ("the", []),
        ("", []),
    ],
)
def test_words(text: str, found: list[str]) -> None:
    assert words(text) == found


@pytest.mark.parametrize(
    ("answer", "right", "value"),
    [
        ("Rome", "rome.", 1.0),
        ("It is Rome", "Rome", 2 * (1 / 3) * 1 / (1 / 3 + 1)),
        ("Rome Rome", "Rome", 2 / 3),
        ("red house", "house red", 1.0),
        ("", "Rome", 0.0),
        ("the", "", 1.0),
        ("the", "Rome", 0.0),
        ("東京", "東京都", 0.8),
    ],
)
def test_token_f1(answer: str, right: str, value: float) -> None:
    assert token_f1(answer, right) == pytest.approx(value)
    assert token_f1(right, answer) == pytest.approx(value)


@pytest.mark.parametrize(
    ("answer", "right", "there"),
    [
        ("I think it is the Big Apple.", "big apple", True),
        ("a big red apple", "big apple", False),
        ("I know", "no", False),
        ("", "no", False),
        ("fine :-)", ":-)", True),
        ("fine", ":-)", False),
        ("fine", "", False),
    ],
)
def test_contains(answer: str, right: str, there: bool) -> None:
    assert contains(answer, right) is there


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5 + 7 = 12, so #### 18", "18"),
        ("#### 1,200 apples for 3 people", "1200"),
        ("He has 3 of 4.", "4"),
        ("it is -3.5.", "-3.5"),
        ("\u22127 degrees", "-7"),
        ("pages 3-5", "5"),
        ("$1,234.50", "1234.50"),
        ("1, 2, 3,4", "4"),
        ("so \\boxed{42} in 7 steps", "42"),
        ("about .5", "0.5"),
        ("2e3 in all", "2000"),
        ("4 #### none", "4"),
        ("none", None),
        ("", None),
    ],
)
def test_final_number(text: str, number: str | None) -> None:
    assert final_number(text) == (None if number is None else Decimal(number))


def test_numbers_are_compared_by_value() -> None:
    assert same_number("so it is 18.00", "#### 18")
    assert not same_number("18", "#### 1.8")
    assert not same_number("none", "none")
