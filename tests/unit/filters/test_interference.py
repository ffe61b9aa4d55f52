from __future__ import annotations

import numpy as np

from knowtune.filters.base import Seen
from knowtune.filters.interference import Interference
from tests.unit.helpers import answers_for, row, table


def test_what_pulls_against_the_others_goes() -> None:
    rows = table(*(row(f"id{i}", f"p{i}", "t") for i in range(4))).set_axis(range(3, 7))
    sketches = np.array([[1, 0], [1, 1], [-1, 0], [1, -1]], dtype="float32")
    found = Interference(keep=0.75).reasons(rows, Seen(answers_for(rows), sketches))
    assert found.tolist() == ["", "", "least in line: cosine -1.0000 < 0.0000, with the mean of the others", ""]


def test_of_equal_cosines_the_lower_id_goes() -> None:
    rows = table(row("b", "p", "t"), row("a", "q", "t"))
    found = Interference(keep=0.5).reasons(rows, Seen(answers_for(rows), np.ones((2, 3), dtype="float32")))
    assert found.tolist() == ["", "least in line: cosine 1.0000 = (by id) 1.0000, with the mean of the others"]
