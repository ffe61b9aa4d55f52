from __future__ import annotations

from itertools import combinations

from knowtune.evaluation.report.labels import Box, place_labels

FRAME = Box(0, 0, 300, 200)


def boxes(points: list[tuple[float, float]], size: tuple[float, float] = (40, 10)) -> list[Box]:
    marks = [Box(x - 3, y - 3, x + 3, y + 3) for x, y in points]
    offsets = place_labels(points, [size] * len(points), marks, FRAME)
    width, height = size
    centres = [(x + dx, y + dy) for (x, y), (dx, dy) in zip(points, offsets, strict=True)]
    return [Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2) for x, y in centres]


def test_a_lonely_name_stands_to_the_right() -> None:
    (box,) = boxes([(100, 100)])
    assert (box.left, box.bottom) == (107, 95)


def test_at_the_edge_a_name_stays_inside() -> None:
    for box in boxes([(298, 100), (2, 198), (150, 1)]):
        assert box.overlap(FRAME) == box.area


def test_names_of_a_crowd_cover_neither_each_other_nor_a_point() -> None:
    points = [(120.0 + 14 * (i % 3), 100.0 + 16 * (i // 3)) for i in range(6)]
    made = boxes(points)
    assert all(one.overlap(other) == 0 for one, other in combinations(made, 2))
    assert all(box.overlap(Box(x - 3, y - 3, x + 3, y + 3)) == 0 for box in made for x, y in points)
