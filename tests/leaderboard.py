"""The README's leaderboard and picture, of the default's report; `python -m tests.leaderboard` writes them.

docs/leaderboard.md is the report's whole table, byte for byte, so dvc.lock says of which run it is. The README shows
some of its columns.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
TABLE, PICTURE = ROOT / "docs/leaderboard.md", ROOT / "docs/images/frontier.svg"
COPIES = {"data/report/leaderboard.md": TABLE, "data/report/frontier.svg": PICTURE}
BLOCK = re.compile(r"(?<=<!-- leaderboard -->\n).*?(?=<!-- /leaderboard -->)", re.DOTALL)
COLUMNS = ("name", "what", "trained", "reliability ↑", "generalisation ↑", "forgotten ↓", "text_drift ↓")


def board() -> str:
    """Write the README's columns of docs/leaderboard.md."""
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    places = [rows[0].index(column) for column in COLUMNS]
    return "".join(f"| {' | '.join(row[place] for place in places)} |\n" for row in rows)


if __name__ == "__main__":
    for name, copy in COPIES.items():
        shutil.copyfile(ROOT / name, copy)
    README.write_text(BLOCK.sub(lambda _: board(), README.read_text(encoding="utf-8")), encoding="utf-8")
