from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.checkpoints.cards import MERGED
from knowtune.common.errors import UserError
from knowtune.common.files import write_json
from knowtune.evaluation.metrics.base import Judged
from knowtune.evaluation.metrics.forgotten import Forgotten
from knowtune.evaluation.metrics.generalisation import Generalisation
from knowtune.merging.choose import Candidate, Heldout, choose, curve_table, trace_curve
from knowtune.merging.mix import mixed_model
from knowtune.merging.mixtures.base import Mixture
from knowtune.merging.mixtures.interpolate import Interpolate
from tests.unit.helpers import fact_rows

# alpha, learned, forgotten
CURVE = [Candidate(*numbers) for numbers in [(0.0, 0.1, 0.0), (0.25, 0.6, 0.02), (0.5, 0.6, 0.02), (1.0, 0.9, 0.5)]]


@pytest.mark.parametrize(
    ("bound", "alpha"),
    [
        (1.0, 1.0),  # the most learned
        (0.02, 0.25),  # the bound itself is within; of equals the smaller one
        (0.01, 0.0),
    ],
)
def test_the_most_learned_within_the_bound(bound: float, alpha: float) -> None:
    assert choose(CURVE, bound).alpha == alpha
    assert choose(CURVE[::-1], bound).alpha == alpha


def test_the_least_forgotten_where_none_is_within_the_bound() -> None:
    assert choose(CURVE[1:], 0.01).alpha == 0.25
    equal = [Candidate(0.5, 0.7, 0.1), Candidate(0.25, 0.6, 0.1), Candidate(0.75, 0.7, 0.1)]
    assert choose(equal, 0.0).alpha == 0.5


def test_a_table_of_every_seed() -> None:
    table = curve_table({0: (CURVE[:2], CURVE[1]), 3: (CURVE[:2], CURVE[0])})
    assert table.to_dict("list") == {
        "seed": [0, 0, 3, 3],
        "alpha": [0.0, 0.25] * 2,
        "learned": [0.1, 0.6] * 2,
        "forgotten": [0.0, 0.02] * 2,
        "chosen": [False, True, True, False],
    }


class TestCurve:
    @pytest.fixture
    def broken(self, base: Base, tmp_path: Path) -> Path:
        """A tuned model that has lost what the base knew."""
        folder, model = tmp_path / "run" / "seed-0", base.model()
        with torch.no_grad():
            model.get_output_embeddings().weight.mul_(-1)
        model.save_pretrained(folder)
        write_json(folder / MERGED, {"base_digest": base.digest})
        return folder

    def traced(self, base: Base, folder: Path, rows: Heldout, out: Path) -> list[Candidate]:
        choice = Interpolate(alpha=[1.0, 0.0, 0.25]).choice
        assert choice is not None

        def mixed(member: Mixture) -> torch.nn.Module:
            model = mixed_model(member, [folder], [1.0], base, out, 0)[0]
            assert not out.exists()  # a candidate is never written
            return model

        return trace_curve(choice, mixed, base, rows, "mix x")

    def test_it_counts_as_the_metrics_do(self, base: Base, broken: Path, tmp_path: Path) -> None:
        rows = fact_rows()
        curve = self.traced(base, broken, Heldout(rows.head(8), rows, 4), tmp_path / "out" / "seed-0")
        assert [candidate.alpha for candidate in curve] == [0.0, 0.25, 1.0]
        judge = partial(base.task.evaluator.judge, tokenizer=base.tokenizer(), batch_size=4, label="x")
        knows = judge(base.model(), rows=rows)["correct"]
        for candidate in curve:
            model = mixed_model(Interpolate(alpha=candidate.alpha), [broken], [1.0], base, tmp_path / "m", 0)[0]
            new = judge(model, rows=rows.head(8)).assign(kind="generalisation")
            known = judge(model, rows=rows).assign(kind="locality", base_correct=knows)
            examples: Any = pd.concat([new, known])
            judged = Judged(examples, rows[:0])
            assert candidate.learned == Generalisation().compute(judged)
            assert candidate.forgotten == Forgotten().compute(judged)
        assert [curve[0].forgotten, curve[2].forgotten] == [0.0, 1.0]
        assert curve[0].learned == knows.head(8).mean() > 0
        assert list((tmp_path / "out").iterdir()) == []

    @pytest.mark.parametrize(("validation", "replay", "why"), [(0, 4, "validation rows"), (4, 0, "may be replayed")])
    def test_without_rows_there_is_no_choice(
        self, validation: int, replay: int, why: str, base: Base, broken: Path, tmp_path: Path
    ) -> None:
        rows = fact_rows()
        with pytest.raises(UserError, match=f"^mix x: there are no .*{why} to choose alpha on; give such rows, or one"):
            self.traced(base, broken, Heldout(rows.head(validation), rows.head(replay), 4), tmp_path / "out" / "seed-0")

    def test_a_base_that_knows_nothing_can_forget_nothing(self, base: Base, broken: Path, tmp_path: Path) -> None:
        rows = fact_rows()
        unknown = rows.head(3).assign(target="quiz")
        with pytest.raises(UserError, match=r"^mix x: the base has none of the 3 rows right that may be replayed"):
            self.traced(base, broken, Heldout(rows, unknown, 4), tmp_path / "out" / "seed-0")
