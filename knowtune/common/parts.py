"""Work through a file of rows part by part: memory is bounded by a part, and a killed run goes on where it was.

Where parts begin depends on the file alone, so that a result does not depend on how often one was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from knowtune.common.files import count_rows, read_parts, whole

if TYPE_CHECKING:
    import pandas as pd

SIZE = 4096  # rows of a part


def by_parts(
    source: Path, work: Path, suffix: str, label: str, make: Callable[[pd.DataFrame, str, Path], None]
) -> list[Path]:
    """Make one file from each part of the rows, but for those that are there already.

    Args:
        source: JSON lines.
        work: where the files go; keyed by everything that decides them.
        suffix: of their names.
        label: what progress bars say.
        make: writes the file of a part; gets its rows, what its progress bar says, and the path.

    Returns:
        The files in the order of the rows.
    """
    total = -(-count_rows(source) // SIZE)
    places = []
    for number, rows in enumerate(read_parts(source, SIZE)):
        place = work / f"{number:06d}{suffix}"
        if not place.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            with whole(place) as path:
                make(rows, label if total == 1 else f"{label}, part {number + 1} of {total}", path)
        places.append(place)
    return places
