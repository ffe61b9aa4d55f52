from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from knowtune.common.errors import UserError
from knowtune.merging.parity import PARITY
from stages.core.champion import (
    CARD,
    FOLDER,
    RESULTS,
    compact,
    ensure_champion,
    install_champion,
    read_champion,
    read_results,
    write_champion,
)
from stages.core.pipeline import read_stages
from stages.gate import PARITY as OF_THE_GATE

ROOT = Path(__file__).resolve().parents[4]
KEPT = {"run": "kept", "seed": 1, "task": {"kind": "knowledge"}, "base_digest": "b", "weights_digest": "w"}


def evaluated() -> pd.DataFrame:
    rows = [
        {"id": f"e{i}", "fact": f"f{i}", "kind": kind, "seed": seed, "correct": (i + seed) % 2 == 0, "loss": i / 10}
        for i, kind in enumerate(["reliability", "generalisation", "locality"])
        for seed in (0, 2)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("numeric", [False, True])
def test_results_come_back_but_for_what_is_not_to_be_learned(numeric: bool, tmp_path: Path) -> None:
    write_champion(tmp_path, KEPT, compact(evaluated(), numeric=numeric))
    column = "loss" if numeric else "correct"
    wanted = evaluated()[lambda rows: rows["kind"] != "locality"][["id", "fact", "kind", "seed", column]]
    found = read_results(tmp_path)[["id", "fact", "kind", "seed", column]]
    pd.testing.assert_frame_equal(
        found.astype({column: float}), wanted.astype({column: float}), check_dtype=False, check_index_type=False
    )


def test_there_is_none_at_first_and_a_version_is_installed_over_another(tmp_path: Path) -> None:
    ensure_champion(tmp_path / "champion")
    assert read_champion(tmp_path / "champion", "knowtune") is None
    for version in ("1", "2"):
        write_champion(tmp_path / version, KEPT, compact(evaluated().head(int(version) * 2), numeric=False))
        install_champion(tmp_path / version, tmp_path / "champion", "knowtune", version)
        card = read_champion(tmp_path / "champion", "knowtune")
        assert card is not None and (card["model"], card["version"]) == ("knowtune", version)
        assert len(read_results(tmp_path / "champion")) == 2 * int(version)
    ensure_champion(tmp_path / "champion")
    assert read_champion(tmp_path / "champion", "knowtune") == card
    assert read_champion(tmp_path / "champion", "another") is None
    (tmp_path / "champion" / RESULTS).write_text("")
    with pytest.raises(UserError, match=r"damaged; `python -m flows.promote --to 2` writes it again"):
        read_champion(tmp_path / "champion", "knowtune")
    (tmp_path / "champion" / CARD).write_text("{")
    with pytest.raises(UserError, match=r"damaged; `python -m flows.promote --to VERSION` writes it again"):
        read_champion(tmp_path / "champion", "knowtune")


def test_names_that_stand_twice_are_the_same() -> None:
    assert str(FOLDER) in read_stages(ROOT)["gate"].deps
    assert OF_THE_GATE == PARITY
