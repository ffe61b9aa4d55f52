"""Where names stand beside points so that none lies over another, a point or an interval.

Each name tries places around its point, near ones first, and takes the one that covers least. Deterministic, and good
enough for the few tens of points that a person looks at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

DISTANCES = (7, 14, 24, 38, 54)
ANGLES = (0, 180, 90, 270, 35, 145, 215, 325)  # to the right is read most easily
OUTSIDE, ON_A_LABEL, ON_A_MARK = 50.0, 5.0, 2.0  # how bad it is to cover so many squared points


class Box(NamedTuple):
    """A rectangle in points of 1/72 inch."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """Return the area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return width * height if width > 0 and height > 0 else 0.0

    @property
    def area(self) -> float:
        """Return how much it covers."""
        return (self.right - self.left) * (self.top - self.bottom)


def place_labels(
    points: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], marks: Sequence[Box], frame: Box
) -> list[tuple[float, float]]:
    """Return how far each label's centre is from its point.

    Args:
        points: in points of 1/72 inch.
        sizes: width and height of each label.
        marks: what is drawn and should stay visible.
        frame: what labels should not leave.
    """
    placed: list[Box] = []
    offsets = []
    for (x, y), size in zip(points, sizes, strict=True):
        places = enumerate(_candidates(x, y, *size))
        _, (offset, box) = min(places, key=lambda place: place[0] + _cost(place[1][1], placed, marks, frame))
        placed.append(box)
        offsets.append(offset)
    return offsets


def _candidates(x: float, y: float, width: float, height: float) -> Iterator[tuple[tuple[float, float], Box]]:
    """Yield places around a point: how far the centre is off, and the label's box."""
    for distance in DISTANCES:
        for angle in ANGLES:
            across, up = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            dx, dy = across * (distance + width / 2), up * (distance + height / 2)
            yield (dx, dy), Box(x + dx - width / 2, y + dy - height / 2, x + dx + width / 2, y + dy + height / 2)


def _cost(box: Box, placed: Sequence[Box], marks: Sequence[Box], frame: Box) -> float:
    """Return how bad a place is: what it covers, in squared points; a place further down the list costs one more."""
    outside = box.area - box.overlap(frame)
    on_labels = sum(box.overlap(other) for other in placed)
    on_marks = sum(box.overlap(mark) for mark in marks)
    return OUTSIDE * outside + ON_A_LABEL * on_labels + ON_A_MARK * on_marks
