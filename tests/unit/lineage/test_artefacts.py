from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from knowtune.lineage.artefacts import Layout, make_graph
from knowtune.lineage.graph import Graph
from knowtune.lineage.words import table_of
from tests.unit.lineage.conftest import LAYOUT, PARAMS


def test_a_model_leads_back_to_all_that_made_it_and_to_nothing_else(graph: Graph) -> None:
    back = graph.back(graph.of("merged", "keeps"))
    assert [node.id for node in back.nodes.values()] == [
        "source raw", "source raw/text.jsonl", "base", "rows", "answers", "filter clean", "selection some/seed-0",
        "kept keeps", "adapter keeps/seed-0", "merged keeps/seed-0",
    ]  # fmt: skip
    assert all({a, b} <= set(back.nodes) for a, b in back.arrows)
    table = list(table_of(back.as_dict()["nodes"]))
    assert [line.split()[0] for line in (table[1], table[-1])] == ["merged", "source"]
    said = "\n".join(" ".join(line.split()) for line in table)
    assert "filter clean 2 of 3 rows kept; dropped: 1 by clean" in said
    assert "fish on clean: 1 rows, mask of 7 parameters" in said


def test_a_runs_seed_works_on_the_selections_seed_that_training_takes(graph: Graph) -> None:
    read = {n.name: graph.back([n]).of("selection")[0].name for n in graph.of("adapter", "all")}
    assert read == {"all/seed-0": "some/seed-0", "all/seed-1": "some/seed-1", "all/seed-2": "some/seed-0"}


def test_seeds_that_were_not_merged_have_no_model_and_mixtures_take_pairs(graph: Graph) -> None:
    assert [node.name for node in graph.of("merged", "all")] == ["all/seed-0", "all/seed-1"]
    assert [node.name for node in graph.of("mixture")] == ["soup/seed-0", "soup/seed-1"]
    assert {n.name for n in graph.back(graph.of("mixture")[:1]).of("adapter")} == {"all/seed-0", "few/seed-0"}
    assert {n.id for n in graph.forward(graph.of("adapter", "few")).nodes.values()} == {
        "adapter few/seed-0", "merged few/seed-0", "mixture soup/seed-0",
        "adapter few/seed-1", "merged few/seed-1", "mixture soup/seed-1",
    }  # fmt: skip


def test_a_mixture_of_all_seeds_has_one_model_that_reads_every_one(find: Callable[[str], Path | None]) -> None:
    mixtures = {"soup": {**PARAMS["mixtures"]["soup"], "seeds": "all"}}
    graph = make_graph({**PARAMS, "mixtures": mixtures}, LAYOUT, find)
    (soup,) = graph.of("mixture")
    merged = {node.name for run in PARAMS["mixtures"]["soup"]["from"] for node in graph.of("merged", run)}
    assert {node.name for node in graph.back([soup]).of("merged")} == merged
    assert " of all seeds of " in "\n".join(table_of(graph.back([soup]).as_dict()["nodes"]))


def test_a_card_that_is_gone_or_damaged_is_named(find: Callable[[str], Path | None], tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text('{"kind":')

    def spoiled(path: str) -> Path | None:
        if path == "adapters/few/seed-0/knowtune.json":
            return None
        return tmp_path / "cut.json" if path == "filtered/clean/summary.json" else find(path)

    graph = make_graph(PARAMS, LAYOUT, spoiled)
    faults = {node.id: node.faults for node in graph.nodes.values() if node.faults}
    assert faults.pop("adapter few/seed-0") == ["adapters/few/seed-0/knowtune.json: missing"]
    assert "not readable" in faults.pop("filter clean")[0]
    assert not faults


def test_folders_that_are_not_read_say_nothing(find: Callable[[str], Path | None]) -> None:
    graph = make_graph(PARAMS, Layout(filtered="filtered"), find)
    assert len(graph.of("merged", "all")) == 3  # nothing says which of them were merged
    assert not [node.faults for node in graph.nodes.values() if node.faults]
