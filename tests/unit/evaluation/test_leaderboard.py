from __future__ import annotations

from typing import Any

import pytest

from knowtune.evaluation.leaderboard import Entry, arrow, leaderboard_markdown, leaderboard_rows

METRICS = ["generalisation", "forgotten", "text_loss"]


def interval(mean: float, half_width: float | None, n: int = 3) -> dict[str, Any]:
    return {"mean": mean, "half_width": half_width, "n": n}


ENTRIES = [
    Entry(
        "base", "as it is", None, None,
        {"generalisation": interval(0.1, None, 1), "forgotten": interval(0, None, 1)},
    ),
    Entry(
        "lora", "lora on <clean>", 12345, 1.24e-6,
        {"generalisation": interval(0.5, 0.0123), "forgotten": interval(0.02, 0.01), "text_loss": interval(2, 0.5)},
    ),
    Entry("soup", "ties of lora", None, None, {"text_loss": interval(1.5, None, 1)}),
]  # fmt: skip


class TestCells:
    def test_shares_are_percent(self) -> None:
        assert ENTRIES[0].cell("generalisation") == "10.0 %"
        assert ENTRIES[1].cell("generalisation") == "50.0 % ± 1.2"

    def test_nats_are_not(self) -> None:
        assert ENTRIES[1].cell("text_loss") == "2.000 ± 0.500"
        assert ENTRIES[2].cell("text_loss") == "1.500"

    def test_what_was_not_measured(self) -> None:
        assert ENTRIES[0].cell("text_loss") == "–"

    def test_arrows(self) -> None:
        assert [arrow(m) for m in METRICS] == ["↑", "↓", "↓"]


class TestLeaderboard:
    def test_rows(self) -> None:
        head, rows = leaderboard_rows(ENTRIES, METRICS)
        assert head == ["name", "what", "trained", "generalisation ↑", "forgotten ↓", "text_loss ↓", "parity"]
        assert rows == [
            ["base", "as it is", "–", "10.0 %", "0.0 %", "–", "–"],
            ["lora", "lora on <clean>", "12,345", "50.0 % ± 1.2", "2.0 % ± 1.0", "2.000 ± 0.500", "1.2e-06"],
            ["soup", "ties of lora", "–", "–", "–", "1.500", "–"],
        ]

    def test_how_much_the_base_knew_and_what_to_mind_stand_below(self) -> None:
        text = leaderboard_markdown(ENTRIES[:1], ["forgotten", "text_loss"], (3, 8), ["it says little", "it is cut"])
        assert text.endswith(
            "- forgotten ↓: of the known facts that the base has right, those lost; the base has 3 of 8 right (share)\n"
            "- text_loss ↓: loss on held-out text (nats per token)\n"
            "\nCaution: it says little.\nCaution: it is cut.\n"
        )

    def test_a_bar_in_a_cell_is_no_border(self) -> None:
        entry = Entry("majority", "always 'a|b'", None, None, {}, constant=True)
        assert "| majority | always 'a\\|b' | – | – | – |" in leaderboard_markdown([entry], ["forgotten"])

    def test_markdown(self) -> None:
        assert leaderboard_markdown(ENTRIES[:1], ["forgotten"]) == (
            "| name | what | trained | forgotten ↓ | parity |\n"
            "| --- | --- | --- | --- | --- |\n"
            "| base | as it is | – | 0.0 % | – |\n"
            "\n"
            "- forgotten ↓: of the known facts that the base has right, those lost (share)\n"
        )


@pytest.mark.parametrize("name", ["generalisation", "known"])
def test_the_arrow_is_the_metrics_own(name: str) -> None:
    assert arrow(name) == "↑"
