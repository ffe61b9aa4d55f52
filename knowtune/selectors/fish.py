"""FISH mask: train the parameters with the highest Fisher information (Sung, Nair, Raffel 2021, arXiv 2111.09839).

    F_j = 1/|X| sum_{x in X} (d loss(x) / d theta_j)^2        Theta = top-K_j F_j

X         `samples` random rows
theta_j   a parameter, all tensors laid end to end
K         the budget without the classifier's head, which is always trained

As in the authors' released code [READ]: random rows, one global top-K over all tensors (embeddings, norms and biases
included), the head outside of it but inside the budget, labels of the data by default. Departures: their code draws
1024 rows by default, here `samples: null` means all; their sum is a mean here, which leaves the mask as it is; ties
go to the earlier parameter and the lower index, theirs to whatever torch's topk gives; shares within every tensor
(`granularity: parameter`), `stratify` and `max_loss` are ours.

The authors score no rows. Here the score of a drawn row is its trace, sum_{j in Theta} (d loss(x) / d theta_j)^2: a
second pass over the drawn rows alone. A row that was not drawn is not looked at and has the score 0.
"""

from __future__ import annotations

from knowtune.selectors.base import Choice, Pool
from knowtune.selectors.informed import Informed
from knowtune.selectors.trace import Round, choice_of, describe


class Fish(Informed):
    """Draw rows and choose the entries with the highest Fisher information over them."""

    def choose(self, pool: Pool, seed: int) -> Choice:
        """Choose X at random, then Theta by F on X."""
        import numpy as np

        from knowtune.models import masks

        num = self.num_chosen(pool)
        rows, _ = self.draw_rows(pool, np.random.default_rng(seed))
        protection, fisher = self.protection(pool), self.fisher(pool, rows)
        mask = self.best_entries(protection.rank(fisher), num, protection.free)
        scores = np.zeros(len(pool.rows))
        scores[rows] = self.traces(pool, rows, mask)
        layers = describe(pool.shapes, mask, fisher)
        trace = [Round(1, len(rows), masks.num_entries(mask), mass_kept=float(layers["kept_mass"].sum()))]
        return choice_of(pool, rows, scores, mask, trace, layers, protection)
