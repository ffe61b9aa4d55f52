from __future__ import annotations

import pytest

from knowtune.data.quotes import Quotes
from knowtune.text.layout import Layout
from tests.unit.helpers import row, table

CHAT = "<|user|>\nWhat is the hat of Ada?<|end|>\n<|assistant|>\n"
MARKUP = Layout(markup=((0, 9), (32, len(CHAT)))).to_text()
MEASURED = table(
    row("hat", "The hat of Ada is ", "red", subject="Ada Byron", aliases="crimson\ndark red"),
    row("town", "Bob lives in ", "Rome.", subject=""),
    row("poet", "作者は ", "漱石", subject="坊っちゃん"),
    row("sign", "x", "C++", subject="Bjarne"),
    row("chat", CHAT, "blue", subject="", layout=MARKUP),
)


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("Ada Byron wears red.", "hat"),
        ("Red is what ADA  BYRON wears", "hat"),
        ("Ada Byron's dark hat", None),
        ("Ada Byron: dark, red", "hat"),
        ("Ada Byron: crimson!", "hat"),
        ("Ada and Byron and red", None),
        ("Ada Byron is reddish", None),
        ("Bob lives in Rome, she said", "town"),
        ("bob lives\nin rome", "town"),
        ("Bob lives in Oslo, not in Rome", None),
        ("Rome is where Bob lives", None),
        ("夏目漱石の「坊っちゃん」", "poet"),
        ("坊っちゃんの人", None),
        ("Bjarne made C++", "sign"),
        ("Bjarne made C", None),
        ("What is the hat of Ada? It is blue", "chat"),
        ("What is the hat of Ada? It is green", None),
        ("", None),
    ],
)
def test_what_quotes_a_measured_row(text: str, quoted: str | None) -> None:
    assert Quotes(MEASURED).in_text(text) == quoted


def test_no_row_no_quote() -> None:
    assert Quotes(table()).in_text("Ada Byron wears red.") is None
