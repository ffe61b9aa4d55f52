from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from knowtune.common.errors import UserError
from stages.lineage.checks import stale_links
from stages.lineage.recorded import as_recorded, layout, read_recorded


def entry(*, deps: dict[str, str], outs: dict[str, str], params: dict[str, Any]) -> dict[str, Any]:
    of = {"deps": deps, "outs": outs}
    listed = {kind: [{"path": path, "md5": md5} for path, md5 in of[kind].items()] for kind in of}
    return {"cmd": "python  -m\n stages.x", **listed, "params": {"params.yaml": params}}


LOCK = {
    "stages": {
        "prepare": entry(deps={"raw": "r1"}, outs={"rows": "a1"}, params={"source": {"data": "raw"}}),
        "filter@clean": entry(
            deps={"rows": "a1"}, outs={"kept/clean": "k1.dir"}, params={"filters.clean": {"keep": 1}}
        ),
        "filter@gone": entry(deps={"rows": "a0"}, outs={"kept/gone": "g1.dir"}, params={"filters.gone": {}}),
    }
}


def test_a_lock_gives_digests_params_and_commands_of_the_stages_that_count() -> None:
    recorded = as_recorded(LOCK, ["prepare", "filter@clean", "filter@new"])
    assert recorded.params == {"source": {"data": "raw"}, "filters": {"clean": {"keep": 1}}}
    assert recorded.commands["prepare"] == "python -m stages.x"
    assert recorded.missing == ("filter@new",)
    assert {path: digest["md5"] for path, digest in recorded.outs.items()} == {"rows": "a1", "kept/clean": "k1.dir"}
    assert recorded.producer("kept/clean") == "filter@clean"
    assert recorded.md5_of("filter@clean", "kept/clean/kept.jsonl") == "k1.dir"
    assert (recorded.read_as("raw"), recorded.read_as("elsewhere")) == ("r1", "")


def test_what_was_made_anew_since_it_was_read_is_stale() -> None:
    recorded = as_recorded(LOCK)
    assert list(stale_links("filter@clean", recorded)) == []
    (fault,) = stale_links("filter@gone", recorded)
    assert fault.startswith("filter@gone read rows as a0, and prepare has written a1 since")


@pytest.mark.parametrize("lock", [{}, {"stages": ["x"]}, {"stages": {"x": {"deps": [{"path": "y"}], "outs": 3}}}])
def test_a_damaged_lock_is_told(lock: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"dvc.lock: damaged"):
        as_recorded(lock)


def test_without_a_lock_nothing_was_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing was made yet; `make run` makes it"):
        read_recorded(tmp_path)


def test_paths_are_those_of_dvc_yaml() -> None:
    assert (layout().prepared, layout().selected, layout().mixed) == ("data/prepared", "data/selected", "data/mixed")
    assert (layout().base, layout().rehearsed) == ("data/base", "data/rehearsed")
