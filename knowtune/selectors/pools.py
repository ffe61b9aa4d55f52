"""What a selector chooses among, made from a real model: the base's parameters, or those of an adapter on it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.common.errors import UserError
from knowtune.common.files import text_digest
from knowtune.gradients.fisher import fisher_diagonal, parameters_in, row_traces
from knowtune.gradients.options import Scoring
from knowtune.models.heads import head_parameters
from knowtune.selectors.base import Pool

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from knowtune.preserve.sources import Material
    from knowtune.tasks.base import Task


@dataclass
class ModelPool(Pool):
    """Rows and parameters of a model.

    Args:
        rows: the kept rows.
        encoded: the same as tokens.
        model: a pristine base, or a base with a warmed adapter; left as it is.
        task: says the loss.
        pattern: globs on parameter names; None for all.
        adapter: the name of the adapter whose parameters are the scope; None for the base's.
        seed: of drawn labels, and of samples of what the base knew.
        label: what progress lines call the selection.
        work: where an interrupted scoring goes on; None for nowhere.
        material: what the base knew, of the sources that are protected; None where nothing is.
        trial: trains on rows (positions) and mask, and says how good the result is; None where nothing is searched.
    """

    rows: pd.DataFrame
    encoded: Sequence[Any]
    model: torch.nn.Module
    task: Task
    pattern: str | Sequence[str] | None = None
    adapter: str | None = None
    seed: int = 0
    label: str = "select"
    work: Path | None = None
    material: Material | None = None
    trial: Callable[[Sequence[int], Mapping[str, torch.Tensor], int], float] | None = None
    parameters: dict[str, torch.nn.Parameter] = field(init=False)

    def __post_init__(self) -> None:
        """Find the scope; a classifier's head is trained whatever is chosen."""
        head = head_parameters(self.model)
        in_scope = parameters_in(self.model, self.pattern, self.adapter)
        self.parameters = {name: p for name, p in in_scope.items() if name not in head}
        if not self.parameters:
            raise UserError(
                f"{self.label}: pattern {self.pattern!r} names the classifier's head alone, which is always trained"
            )
        self.shapes = {name: tuple(p.shape) for name, p in self.parameters.items()}
        self.num_reserved = sum(p.numel() for p in head.values())

    def weights(self) -> Mapping[str, torch.Tensor]:
        """Return the parameters without their gradients."""
        return {name: p.detach() for name, p in self.parameters.items()}

    def fisher(self, rows: Sequence[int], scoring: Scoring) -> Mapping[str, torch.Tensor]:
        """See `knowtune.gradients.fisher.fisher_diagonal`."""
        return fisher_diagonal(
            self.model, self._of(rows), self.task, self.parameters, scoring, **self._options(rows, scoring, None)
        )

    def kept_fisher(self, source: str, samples: int | None) -> Mapping[str, torch.Tensor]:
        """Take it of the pristine base, or of an adapter after its warm-up, with the labels that the sequences have.

        Raises:
            UserError: there are fewer sequences than `samples`.
        """
        assert self.material is not None, "a selection that protects is given what the base knew"
        sequences, ids = self.material.sequences[source], self.material.ids[source]
        positions = self.material.draw(source, samples, self.seed, "protect.samples")
        chosen = [sequences[i] for i in positions]
        return fisher_diagonal(
            self.model, chosen, self.task, self.parameters, Scoring(), seed=self.seed,
            label=f"{self.label}: Fisher information about {source!r}, {len(chosen)} sequences",
            ids=[ids[i] for i in positions], work=self._work(["kept", source, positions]),
        )  # fmt: skip

    def row_scores(
        self, rows: Sequence[int], mask: Mapping[str, torch.Tensor] | None, scoring: Scoring
    ) -> torch.Tensor:
        """See `knowtune.gradients.fisher.row_traces`."""
        options = self._options(rows, scoring, {} if mask is None else mask)
        return row_traces(self.model, self._of(rows), self.task, self.parameters, scoring, mask, **options)

    def dev_score(self, rows: Sequence[int], mask: Mapping[str, torch.Tensor], seed: int) -> float:
        """Run the trial."""
        if self.trial is None:
            raise UserError(
                f"{self.label}: a search needs `trial` (steps, learning_rate, batch_size) and validation rows"
            )
        return self.trial(rows, mask, seed)

    def _of(self, rows: Sequence[int]) -> list[Any]:
        """Return the tokens of some rows."""
        return [self.encoded[i] for i in rows]

    def _options(
        self, rows: Sequence[int], scoring: Scoring, mask: Mapping[str, torch.Tensor] | None
    ) -> dict[str, Any]:
        """Name the pass for its progress bar, and give it a work folder of its own."""
        what = "Fisher information" if mask is None else "row scores"
        digests = [(name, hashlib.sha256(m.numpy().tobytes()).hexdigest()) for name, m in (mask or {}).items()]
        return {
            "seed": self.seed,
            "label": f"{self.label}: {what} of {len(rows)} rows",
            "ids": self.rows["id"].iloc[list(rows)].tolist(),
            "work": self._work([what, list(map(int, rows)), scoring.model_dump(), digests]),
        }

    def _work(self, key: list[Any]) -> Path | None:
        """Name the work folder of a pass by all that it depends on."""
        return None if self.work is None else self.work / text_digest(key)[:16]
