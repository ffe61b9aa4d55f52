from __future__ import annotations

from pathlib import Path

from cli.workspace import with_absolute_paths


def test_paths_mean_what_they_meant_at_the_root() -> None:
    raw = {"source": {"data": "a/b", "text": "/c"}, "base": {"path": "../m"}, "threads": 2}
    assert with_absolute_paths(raw, Path("/root/project")) == {
        "source": {"data": "/root/project/a/b", "text": "/c"},
        "base": {"path": "/root/m"},
        "threads": 2,
    }
