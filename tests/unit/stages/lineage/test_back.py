from __future__ import annotations

from pathlib import Path

import pytest

from knowtune.common.errors import UserError
from knowtune.common.files import write_json
from knowtune.lineage.graph import Graph, Node
from stages.lineage.back import models_named


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Graph:
    """A run of two seeds of which one is merged, and their mixture; the cards lie in the working folder."""
    monkeypatch.chdir(tmp_path)
    made = Graph()
    for seed in (0, 1):
        made.add(Node("adapter", f"lora/seed-{seed}", path=f"adapters/lora/seed-{seed}"))
    merged = made.add(Node("merged", "lora/seed-0", path="merged/lora/seed-0"), made.of("adapter")[:1])
    merged.facts["weights_digest"] = made.of("adapter")[0].facts["weights_digest"] = "w" * 64
    made.add(Node("mixture", "soup/seed-0", path="mixed/soup/seed-0"), [merged])
    for node in made.nodes.values():
        write_json(tmp_path / node.path / "merged.json", node.facts)
    return made


@pytest.mark.parametrize(
    ("name", "models"),
    [
        ("lora", ["merged lora/seed-0"]),
        ("lora/seed-0", ["merged lora/seed-0"]),
        ("lora/0", ["merged lora/seed-0"]),
        ("lora/1", ["adapter lora/seed-1"]),  # it was not merged
        ("soup", ["mixture soup/seed-0"]),
        ("adapters/lora", ["adapter lora/seed-0", "adapter lora/seed-1"]),
        ("adapters/lora/seed-0", ["adapter lora/seed-0"]),
        ("merged/lora/seed-0/", ["merged lora/seed-0"]),
    ],
)
def test_models_by_name_and_by_folder(graph: Graph, name: str, models: list[str]) -> None:
    assert [node.id for node in models_named(graph, name, Path.cwd())] == models


def test_a_folder_elsewhere_is_known_by_the_weights_that_its_card_names(graph: Graph, tmp_path: Path) -> None:
    write_json(tmp_path / "copy/merged.json", {"weights_digest": "w" * 64})
    write_json(tmp_path / "other/knowtune.json", {"weights_digest": "o" * 64})
    assert [node.id for node in models_named(graph, "copy", tmp_path)] == ["merged lora/seed-0"]
    with pytest.raises(UserError, match="its card says weights oooooooo, which nothing here has made"):
        models_named(graph, "other", tmp_path)


def test_other_names_and_folders_are_told(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no run, mixture or folder is called 'lorra'.*did you mean 'lora'"):
        models_named(graph, "lorra", tmp_path)
    with pytest.raises(
        UserError, match="fresh: not made yet, train@fresh, merge@fresh has not run; `make run` does it"
    ):
        models_named(graph, "fresh", tmp_path, ("train@fresh", "merge@fresh", "train@other"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"allowed: a model's, with merged.json or knowtune.json in it"):
        models_named(graph, "empty", tmp_path)
