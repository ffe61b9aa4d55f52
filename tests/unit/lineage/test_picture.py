from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

from knowtune.lineage.artefacts import Layout, make_graph
from knowtune.lineage.graph import Graph
from knowtune.lineage.picture import draw_graph, lineage_table
from tests.unit.lineage.conftest import PARAMS

SVG = "{http://www.w3.org/2000/svg}"


def boxes(svg: str) -> dict[str, tuple[float, float, float, float]]:
    """Tip to x, y, width and height of each box."""
    tree = ElementTree.fromstring(svg.replace("<svg", f'<svg xmlns="{SVG[1:-1]}"', 1))
    return {
        str(group.findtext(f"{SVG}title")): tuple(float(rect.attrib[key]) for key in ("x", "y", "width", "height"))  # type: ignore[misc]
        for group in tree.findall(f"{SVG}g")
        for rect in group.findall(f"{SVG}rect")
    }


def test_each_member_has_a_box_with_all_that_is_known_as_its_tip(graph: Graph) -> None:
    svg = draw_graph(graph)
    tips = list(boxes(svg))
    assert [tip.partition(":")[0] for tip in tips] == [
        "source raw", "source raw/text.jsonl", "base base", "rows rows", "filter clean",
        "selection some, 2 seeds", "selection warm", "adapter all, 3 seeds", "adapter few, 2 seeds", "adapter start",
        "kept keeps", "adapter keeps", "mixture soup, 2 seeds",
    ]  # fmt: skip
    assert "3 training rows of 2 facts" in tips[3]
    assert "all × 3" in svg and "fish" in svg
    assert draw_graph(graph) == svg


def test_boxes_do_not_lie_over_each_other_and_arrows_lead_from_left_to_right(graph: Graph) -> None:
    svg = draw_graph(graph)
    places = list(boxes(svg).values())
    for i, (x, y, width, height) in enumerate(places):
        for left, top, _, _ in places[:i]:
            assert abs(left - x) >= width or abs(top - y) >= height
    ends = re.findall(r'd="M(\S+) \S+C\S+ \S+ \S+ \S+ (\S+) \S+"', svg)
    assert len(ends) > 10
    assert all(float(start) < float(end) for start, end in ends)


def test_the_way_of_a_run_stands_out(graph: Graph) -> None:
    svg = draw_graph(graph, "keeps")
    bold = ElementTree.fromstring(svg.replace("<svg", f'<svg xmlns="{SVG[1:-1]}"', 1)).findall(f"{SVG}g")
    tips = [
        group.findtext(f"{SVG}title", "") for group in bold if 'stroke-width="3.0"' in str(ElementTree.tostring(group))
    ]
    assert [tip.partition(":")[0] for tip in tips] == [
        "source raw", "source raw/text.jsonl", "base base", "rows rows", "filter clean", "selection some, 2 seeds",
        "kept keeps", "adapter keeps",
    ]  # fmt: skip
    assert 'stroke="var(--accent)" stroke-width="2.6"' in svg
    assert "2.6" not in draw_graph(graph)


def test_names_are_escaped(find: Callable[[str], Path | None]) -> None:
    params = {**PARAMS, "filters": {**PARAMS["filters"], "<b>": {"strategy": ["clean"]}}}
    svg = draw_graph(make_graph(params, Layout(), find))
    assert "&lt;b&gt;" in svg and "<b>" not in svg


def test_the_table_names_what_each_run_is_made_of(graph: Graph) -> None:
    lines = {line["run"]: line for line in lineage_table(graph)}
    assert lines["keeps"] == {
        "run": "keeps", "method": "full", "rows": "2", "selection": "some", "filter": "clean",
        "keeps": "replay: 1 of known", "base": "bbbbbbbb", "weights": "keeps0ke",
    }  # fmt: skip
    assert lines["all"]["weights"] == "all0all0, all1all1, all2all2"
