from __future__ import annotations

import unicodedata

import pytest

from knowtune.text.normalize import joint, normal_form, visible


class TestNormalForm:
    @pytest.mark.parametrize(
        "other",
        [
            "the capital of são tomé is",
            "THE CAPITAL OF SÃO TOMÉ IS",
            "  The capital\tof\nSão  Tomé is \r\n",
            "The capital of São\u00a0Tomé\u3000is",
            unicodedata.normalize("NFD", "The capital of São Tomé is"),
            "The capital of São Tomé is\u200b",
            "\ufeffThe cap\u00adital of São To\u2060mé is\u200d",
            "Ｔｈｅ capital of São Tomé is",
        ],
    )
    def test_what_reads_the_same_is_the_same(self, other: str) -> None:
        assert normal_form(other) == normal_form("The capital of São Tomé is") == "the capital of são tomé is"

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("He said ‘x’ and “y”", "he said 'x' and \"y\""),
            ("1990–1995", "1990-1995"),
            ("Straße", "STRASSE"),
            ("ﬁne…", "fine..."),
            ("❤\ufe0f", "❤"),
            ("می‌خواهم", "میخواهم"),
            ("it`s", "it’s"),
        ],
    )
    def test_shapes_make_no_difference(self, one: str, other: str) -> None:
        assert normal_form(one) == normal_form(other)

    @pytest.mark.parametrize(
        ("one", "other"), [("5²", "52"), ("½", "12"), ("Lima", "Lima."), ("Tome", "Tomé"), ("ℝ", "R"), ("a b", "ab")]
    )
    def test_what_means_something_else_stays_something_else(self, one: str, other: str) -> None:
        assert normal_form(one) != normal_form(other)

    @pytest.mark.parametrize("text", ["", " \u200b\n", "a", "ẞ İ ﬀ ᾳ Ǆ", "é\u0345", "Ω Å"])
    def test_a_normal_form_is_its_own(self, text: str) -> None:
        assert normal_form(normal_form(text)) == normal_form(text)


class TestShown:
    @pytest.mark.parametrize(
        ("written", "left"),
        [
            ("\ufeffPeru", "Peru"),
            ("Pe\u200bru\u2060 is\u200b", "Peru is"),
            ("co\u00adopé", "coopé"),
            ("\u200dPeru\u200c", "Peru"),
        ],
    )
    def test_what_shows_nothing_is_left_out(self, written: str, left: str) -> None:
        assert visible(written) == left

    @pytest.mark.parametrize(
        "text",
        [
            "  a\n\tb ",
            "👨‍👩‍👧",
            "می‌خواهم",  # Persian parts the prefix from the word
            "क्‍ष",
            "ភាសា\u200bខ្មែរ",  # Khmer parts words by blanks without width
            "a\u00a0b",
            "\u200fשלום\u200e",
            unicodedata.normalize("NFD", "é"),
        ],
    )
    def test_everything_else_stays_as_written(self, text: str) -> None:
        assert visible(text) == text


class TestJoint:
    @pytest.mark.parametrize(
        ("prompt", "target"),
        [
            ("The capital of Peru is", "Lima"),
            ("Q: Who? A:", "Ada"),
            ("Столица Перу", "Лима"),
            ("페루의 수도는", "리마"),
            ("The word for China is", "中国"),
            ("1 + 1 =", "2"),
            ("中国 in English is", "China"),
        ],
    )
    def test_a_blank(self, prompt: str, target: str) -> None:
        assert joint(prompt, target) == " "

    @pytest.mark.parametrize(
        ("prompt", "target"),
        [
            ("", "x"),
            ("### Response:\n", "Lima"),
            ("The capital is ", "Lima"),
            ("a\u00a0", "b"),
            ("def f():", "\n    return 1"),
            ("x", " y"),
            ("中国的首都是", "北京"),
            ("中国的首都是:", "北京"),
            ("日本の首都は？", "東京"),
            ("Capital of Peru：", "Lima"),
            ("เมืองหลวงของไทยคือ", "กรุงเทพ"),
            ("រាជធានី", "x"),
        ],
    )
    def test_no_blank(self, prompt: str, target: str) -> None:
        assert joint(prompt, target) == ""
