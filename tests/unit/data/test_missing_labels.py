from __future__ import annotations

import pandas as pd

from knowtune.data.missing_labels import check_labels


def test_a_label_without_training_rows() -> None:
    train, test = pd.Series(["a", "a", "b"]), pd.Series(["a", "c", "c"])
    assert check_labels(["a", "b", "c", "d"], train, test) == [
        "2 of 4 labels have no training row, so that they cannot be learned: 'c' (2 test rows), 'd' (0 test rows)"
    ]


def test_many_are_not_all_named() -> None:
    (caution,) = check_labels([f"l{i}" for i in range(30)], pd.Series(["l0"]), pd.Series(["l0"]))
    assert caution.endswith("'l10' (0 test rows) and 19 more")


def test_none_is_missing() -> None:
    assert check_labels(["a"], pd.Series(["a"]), pd.Series([], dtype="str")) == []
    assert check_labels([], pd.Series(["x"]), pd.Series(["x"])) == []
