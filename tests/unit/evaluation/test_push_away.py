from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from knowtune.evaluation.push_away import SHOWN, PushAway, by_kind, farthest, push_away, shorten


def example(name: str, before: float, after: float, kind: str = "generalisation", seed: int = 0) -> dict[str, Any]:
    return {
        "id": name, "fact": f"fact of {name}", "kind": kind, "target": "Rome", "answer": f"tuned {name}",
        "distance": after, "base_answer": f"base {name}", "base_distance": before, "seed": seed,
    }  # fmt: skip


def measured(*examples: dict[str, Any]) -> pd.DataFrame:
    table = pd.DataFrame(examples)
    return table.assign(change=table["distance"] - table["base_distance"])


class Prompts(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return f"prompt of {name}"


class TestByKind:
    def test_by_hand(self) -> None:
        table = measured(
            example("a", 0.5, 0.0), example("b", 0.5, 1.0),
            example("a", 0.5, 0.9, seed=1), example("b", 0.5, 0.7, seed=1),
            example("c", 0.0, 0.5, "locality"), example("c", 0.0, 0.0, "locality", seed=1),
        )  # fmt: skip
        learned, known = by_kind(table)
        assert [learned[key] for key in ("kind", "count", "before")] == ["generalisation", 2, "0.500"]
        assert learned["pushed"].startswith("75.0 % ± ")  # one of two, then both
        assert learned["by"].startswith("0.400 ± ")  # 0.5, then (0.4 + 0.2) / 2
        assert learned["change"].startswith("0.150 ± ")  # 0, then 0.3
        assert [known[key] for key in ("kind", "count", "before")] == ["locality", 1, "0.000"]
        assert known["by"].startswith("0.250 ± ")  # 0.5, then 0 for none

    def test_one_seed_has_no_interval(self) -> None:
        (line,) = by_kind(measured(example("a", 1.0, 0.25)))
        assert (line["pushed"], line["by"], line["change"]) == ("0.0 %", "0.000", "-0.750")


class TestFarthest:
    def test_the_farthest_first_and_each_example_once_with_its_worst_seed(self) -> None:
        table = measured(
            example("a", 0.5, 0.75), example("b", 0.5, 1.0), example("a", 0.5, 1.5, seed=1), example("c", 0.5, 0.4),
            example("d", 0.0, 1.9, "locality"), example("e", 0.5, 0.505),
        )  # fmt: skip
        assert farthest(table, Prompts()) == [
            {
                "fact": "fact of a", "kind": "generalisation", "prompt": "prompt of a", "target": "Rome",
                "base_answer": "base a", "answer": "tuned a", "before": "0.500", "after": "1.500", "seed": 1,
            },
            {
                "fact": "fact of b", "kind": "generalisation", "prompt": "prompt of b", "target": "Rome",
                "base_answer": "base b", "answer": "tuned b", "before": "0.500", "after": "1.000", "seed": 0,
            },
        ]  # fmt: skip

    def test_equals_stand_by_seed_and_id_whatever_their_order(self) -> None:
        examples = [
            example("b", 0.25, 0.5),
            example("a", 0.25, 0.5 + 1e-9),
            example("c", 0.25, 0.5),
            example("0", 0.25, 0.5, seed=1),
        ]
        for some in (examples, examples[::-1]):
            assert [line["fact"][-1] for line in farthest(measured(*some), Prompts())] == ["a", "b", "c", "0"]

    def test_no_more_than_twenty(self) -> None:
        table = measured(*(example(str(i), 0.0, 0.05 * (i + 1)) for i in range(30)))
        assert [line["after"] for line in farthest(table, Prompts())] == [f"{0.05 * i:.3f}" for i in range(30, 10, -1)]


def test_long_texts_are_cut() -> None:
    assert shorten("x" * SHOWN) == "x" * SHOWN
    assert shorten("x" * (SHOWN + 1)) == "x" * (SHOWN - 1) + "…"


class TestPushAway:
    def whole(self) -> PushAway | None:
        lora = pd.DataFrame([example("a", 0.5, 1.0), example("b", 0.5, 0.1), example("c", 0.0, 0.3, "locality")])
        full = pd.DataFrame([example("a", 0.5, 0.0), example("b", 0.5, 0.0), example("c", 0.0, 0.0, "locality")])
        return push_away({"lora": lora, "full": full}, Prompts())

    def test_every_model_has_its_lines_and_only_those_that_push_have_a_list(self) -> None:
        found = self.whole()
        assert found is not None
        assert [(row["model"], row["kind"], row["pushed"]) for row in found.rows] == [
            ("lora", "generalisation", "50.0 %"),
            ("lora", "locality", "100.0 %"),
            ("full", "generalisation", "0.0 %"),
            ("full", "locality", "0.0 %"),
        ]
        assert list(found.worst) == ["lora"]
        assert [line["fact"] for line in found.worst["lora"]] == ["fact of a"]

    def test_twice_the_same_picture_with_both_groups(self) -> None:
        one, two = self.whole(), self.whole()
        assert one is not None and two is not None
        assert one.curves == two.curves
        assert {name: list(groups) for name, groups in one.curves.items()} == {
            name: ["new facts", "known facts"] for name in ("lora", "full")
        }

    def test_a_group_without_examples_is_not_drawn(self) -> None:
        found = push_away({"lora": pd.DataFrame([example("a", 0.5, 1.0)])}, Prompts())
        assert found is not None
        assert "known facts" not in found.curves["lora"]

    @pytest.mark.parametrize(
        "examples",
        [
            pd.DataFrame([example("a", math.nan, 0.5)]),
            pd.DataFrame([example("a", 0.5, 0.5)])[:0],
            pd.DataFrame({"id": []}),
        ],
    )
    def test_nothing_where_nothing_was_measured(self, examples: pd.DataFrame) -> None:
        assert push_away({"lora": examples}, Prompts()) is None

    def test_examples_without_a_distance_are_left_out(self) -> None:
        found = push_away({"lora": pd.DataFrame([example("a", 0.5, 1.0), example("b", math.nan, 0.5)])}, Prompts())
        assert found is not None
        assert [row["count"] for row in found.rows] == [1]
