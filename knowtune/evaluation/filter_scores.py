"""What a filter dropped, scored against the injected label noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from knowtune.data.label_noise import KINDS

if TYPE_CHECKING:
    import pandas as pd


def score_filter(train: pd.DataFrame, injected: pd.DataFrame, dropped: pd.DataFrame) -> dict[str, Any]:
    """Score what a filter dropped against what was injected.

    Returns:
        Per kind: how many were injected and dropped, recall, precision (share of the dropped rows that are of the
        kind) and base rate (the precision of random dropping); and how many sound rows went with them.
    """
    gone = set(dropped["id"])
    kind_of = dict(zip(injected["id"], injected["kind"], strict=True))
    kinds = {}
    for kind in KINDS:
        ids = [row_id for row_id, injected_kind in kind_of.items() if injected_kind == kind]
        hit = len(gone.intersection(ids))
        kinds[kind] = {
            "injected": len(ids),
            "dropped": hit,
            "recall": hit / len(ids) if ids else None,
            "precision": hit / len(gone) if gone else None,
            "base_rate": len(ids) / len(train),
        }
    sound = set(train["id"]) - set(kind_of)
    return {
        "rows": len(train),
        "dropped": len(gone),
        "sound_dropped": len(gone & sound),
        "sound": len(sound),
        "kinds": kinds,
    }
