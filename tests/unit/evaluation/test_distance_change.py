from __future__ import annotations

import pandas as pd

from knowtune.evaluation.distance_change import distance_changes


def test_by_hand() -> None:
    examples = pd.DataFrame({"distance": [1.0, 0.25, None, 0.5], "base_distance": [0.5, 0.5, 0.0, None]})
    assert distance_changes(examples.set_axis([4, 2, 1, 3])).to_dict() == {4: 0.5, 2: -0.25}


def test_examples_without_distances() -> None:
    assert len(distance_changes(pd.DataFrame({"loss": [1.0]}))) == 0
