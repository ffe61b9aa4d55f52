"""The params in the guides and in the README are good, and whole where they say so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from stages.core.params import load_params, read_yaml

ROOT = Path(__file__).resolve().parents[3]
PAGES = ("docs/guide/beacons.md", "docs/guide/selections.md")
FAMILIES = ("filters", "selections", "runs", "mixtures")


def blocks(page: str = "docs/guide/own-data.md") -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_whole_params_file_of_own_data_is_good(tmp_path: Path) -> None:
    (whole,) = [block for block in blocks() if block.startswith("threads:")]
    (tmp_path / "my.yaml").write_text(whole, encoding="utf-8")
    load_params(tmp_path / "my.yaml", deep=True)


def test_the_parts_fit_into_it(tmp_path: Path) -> None:
    (whole,) = [block for block in blocks() if block.startswith("threads:")]
    parts = [block.replace("  ...\n", "") for block in blocks() if not block.startswith("threads:")]
    assert len(parts) == 5
    for i, part in enumerate(parts):
        (tmp_path / "whole.yaml").write_text(whole, encoding="utf-8")
        merged: dict[str, Any] = read_yaml(tmp_path / "whole.yaml")
        given = YAML(typ="safe", pure=True).load(part)
        for section, value in ({"source": given} if "columns" in given else given).items():
            merged[section] = value if section in ("task", "hub", "base") else {**merged[section], **value}
        path = tmp_path / f"part{i}.yaml"
        YAML(typ="safe").dump(merged, path)
        load_params(path)


@pytest.mark.parametrize(
    ("page", "number"), [(page, i) for page in ("README.md", *PAGES) for i in range(len(blocks(page)))]
)
def test_a_block_fits_into_the_default(page: str, number: int, tmp_path: Path) -> None:
    """Members of a family are added; a run that is shown without its selection has the default's."""
    merged: dict[str, Any] = read_yaml(ROOT / "params.yaml")
    for section, value in YAML(typ="safe", pure=True).load(blocks(page)[number]).items():
        adds = section in FAMILIES or (isinstance(value, dict) and section not in ("task", "hub", "base", "source"))
        merged[section] = {**merged[section], **value} if adds else value
    YAML(typ="safe").dump(merged, tmp_path / "block.yaml")
    load_params(tmp_path / "block.yaml")
