"""Weighted average of task vectors (task arithmetic; Ilharco et al., arXiv 2212.04089)."""

from __future__ import annotations

from knowtune.merging.mixtures.base import Mixture


class Average(Mixture):
    """delta = sum_k w_k delta_k, what every mixture does that has no way of its own to combine task vectors."""
