from __future__ import annotations

from knowtune.text.encoded import Encoded, Labelled


def test_labels_and_mask_by_hand() -> None:
    row = Encoded([7, 8, 9, 2], 1, 3)
    assert row.labels == [-100, 8, 9, 2]
    assert row.target_mask == [False, True, True, False]


def test_a_label_or_none() -> None:
    assert (Labelled([1], None, 0.0).has_target, Labelled([1], None, 0.0).num_learned) == (True, 1)
    assert (Labelled([1], None, float("nan")).has_target, Labelled([1], None, float("nan")).num_learned) == (
        False,
        0,
    )
