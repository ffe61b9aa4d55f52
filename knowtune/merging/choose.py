"""Choose one of a mixture's candidates by what each learned and forgot, on rows that no metric measures.

One candidate is in memory at a time, and none is on disk: it is mixed, judged and dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.common.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from knowtune.checkpoints.base import Base
    from knowtune.merging.mixtures.base import Choice, Mixture

CURVE = "curve.csv"  # beside the seeds of a mixture: seed, alpha, learned, forgotten, chosen


@dataclass(frozen=True)
class Heldout:
    """Rows that a choice is made on.

    Args:
        validation: new facts in a paraphrase that is neither trained nor tested.
        replay: known facts that may be replayed.
        batch_size: rows per forward pass.
    """

    validation: pd.DataFrame
    replay: pd.DataFrame
    batch_size: int


@dataclass(frozen=True)
class Candidate:
    """What a candidate learned and forgot.

    Args:
        alpha: how far it goes from the base.
        learned: share of the validation rows that are right.
        forgotten: share of the replay rows that the base has right and that are wrong.
    """

    alpha: float
    learned: float
    forgotten: float


def trace_curve(
    choice: Choice, mixed: Callable[[Mixture], torch.nn.Module], base: Base, rows: Heldout, label: str
) -> list[Candidate]:
    """Judge every candidate.

    Args:
        choice: the candidates.
        mixed: mixes one of them.
        base: their base.
        rows: what they are judged on.
        label: what progress bars and errors say.

    Raises:
        UserError: there are no rows, or the base has none right that could be forgotten.
    """
    for what, table in (("validation rows", rows.validation), ("rows that may be replayed", rows.replay)):
        if table.empty:
            raise UserError(f"{label}: there are no {what} to choose alpha on; give such rows, or one alpha")
    known = _right(base.model(), base, rows.replay, rows.batch_size, f"{label}: base")
    if not known.any():
        raise UserError(
            f"{label}: the base has none of the {len(known)} rows right that may be replayed, so it has nothing to "
            "forget; give rows that it answers, or one alpha"
        )
    curve = []
    for alpha, candidate in choice.candidates.items():
        model, name = mixed(candidate).to(dtype=base.compute.resolved_dtype()), f"{label}, alpha {alpha:g}"
        learned = _right(model, base, rows.validation, rows.batch_size, f"{name}: learned").mean()
        kept = _right(model, base, rows.replay[known], rows.batch_size, f"{name}: forgotten").mean()
        del model  # before the next one
        curve.append(Candidate(alpha, float(learned), 1.0 - float(kept)))
    return curve


def choose(curve: Sequence[Candidate], max_forgotten: float) -> Candidate:
    """Choose the candidate that learned most among those within the bound; of equals the one with the smaller alpha.

    Where none is within it: the candidate that forgot least; of equals the one that learned more, then the one with the
    smaller alpha.
    """
    within = [candidate for candidate in curve if candidate.forgotten <= max_forgotten]
    if within:
        return max(within, key=lambda candidate: (candidate.learned, -candidate.alpha))
    return min(curve, key=lambda candidate: (candidate.forgotten, -candidate.learned, candidate.alpha))


def curve_table(curves: Mapping[int, tuple[Sequence[Candidate], Candidate]]) -> pd.DataFrame:
    """Lay out the candidates of several seeds and which one was chosen  # seed, alpha, learned, forgotten, chosen."""
    import pandas as pd

    rows = [
        {"seed": seed, "alpha": c.alpha, "learned": c.learned, "forgotten": c.forgotten, "chosen": c == chosen}
        for seed, (curve, chosen) in curves.items()
        for c in curve
    ]
    return pd.DataFrame(rows, columns=["seed", "alpha", "learned", "forgotten", "chosen"])


def read_curve(folder: Path) -> list[dict[str, Any]] | None:
    """Read the curve of a mixture as records; None where nothing was chosen."""
    import pandas as pd

    path = folder / CURVE
    if not path.is_file():
        return None
    records: Any = pd.read_csv(path).to_dict("records")
    return list(records)


def _right(model: torch.nn.Module, base: Base, rows: pd.DataFrame, batch_size: int, label: str) -> pd.Series[bool]:
    """Tell which rows a model has right, on the index of the rows."""
    judged = base.task.evaluator.judge(model, base.tokenizer(), rows, batch_size, label)
    correct: pd.Series[bool] = judged["correct"].astype(bool)
    return correct
