"""The page in a real browser: nothing overflows, nothing is fetched, and what can be pointed at and clicked works."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from knowtune.evaluation.report.write import write_report
from tests.unit.evaluation.report.whole import NAMES, whole_report

browser = pytest.importorskip("tests.unit.evaluation.report.browser", reason="needs websockets", exc_type=ImportError)
pytestmark = pytest.mark.skipif(browser.executable() is None, reason="no Chromium is installed")

CELLS = "[...document.querySelectorAll('#board tbody tr')].map(row => row.cells[{}].dataset.value)"
# Elements that reach beyond the window though no box around them scrolls.
OUTSIDE = """[...document.querySelectorAll('body *')].filter(one =>
  one.checkVisibility() && one.getBoundingClientRect().right > innerWidth + 1
  && !one.closest('.wide, .whole, pre, select')).map(one => one.outerHTML.slice(0, 120))"""
# The lightest contrast of any text with what lies behind it, by WCAG's formula.
CONTRAST = """(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const parts = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = rgb => rgb.slice(0, 3).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = one => { for (let at = one; at; at = at.parentElement) {
    const rgb = parts(getComputedStyle(at).backgroundColor); if (rgb[3] === 255) return rgb; } };
  const texts = [...document.querySelectorAll('p, td, th, small, b, summary, li, a, text')]
    .filter(one => one.checkVisibility());
  return Math.min(...texts.map(one => {
    const style = getComputedStyle(one);
    const [one_, two] = [parts(one.matches('text') ? style.fill : style.color), behind(one)].map(light);
    return (Math.max(one_, two) + .05) / (Math.min(one_, two) + .05);
  }));
})()"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("page")
    with browser.opened(write_report(whole_report(), folder / "report"), folder / "profile") as page:
        yield page


def test_it_opens_without_a_fault_and_fetches_nothing(page: Any) -> None:
    assert page.errors == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []
    assert sum(url.startswith("file:") for url in page.requests) == 1
    answer = page.evaluate("document.querySelector('#answer').innerText")
    assert f"Ship {NAMES[1]}, seed 2" in answer and "learned more" in answer
    assert f"The champion, which it has to beat, is {NAMES[-1]}, version 3" in answer
    folded = page.evaluate("[...document.querySelectorAll('details.section')].map(one => [one.id, one.open])")
    assert [name for name, is_open in folded if is_open] == ["answer", "frontier", "leaderboard"]
    assert {"facts", "curves", "pushed", "filters", "selections", "cost", "reproduce"} < {name for name, _ in folded}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_and_everything_can_be_read(page: Any, scheme: str) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    for width in (400, 800, 1600):
        page.look(width, scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate(OUTSIDE) == []
    assert page.evaluate(CONTRAST) > 4.5
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")


def test_no_legend_lies_in_a_picture(page: Any) -> None:
    assert page.evaluate("document.querySelectorAll('svg [id*=legend]').length") == 0
    keys = page.evaluate("[...document.querySelectorAll('#selections .keys span')].map(one => one.innerText)")
    assert keys == ["kept", "dropped by 1. clean"]


def test_a_head_sorts_the_leaderboard(page: Any) -> None:
    page.look(1600)
    page.evaluate("document.querySelectorAll('#board th button')[2].click()")
    learned = [float(value) for value in page.evaluate(CELLS.format(2))]
    assert learned == sorted(learned, reverse=True) and len(learned) == 1 + len(NAMES)
    page.evaluate("document.querySelectorAll('#board th button')[2].click()")
    assert [float(value) for value in page.evaluate(CELLS.format(2))] == learned[::-1]
    trained = page.evaluate("document.querySelectorAll('#board th button')[9].click(), " + CELLS.format(9))
    assert trained[-1] == ""  # the base was not trained: without a value, so last


def test_a_point_tells_its_numbers_and_leads_to_its_rows(page: Any) -> None:
    page.look(800)
    point = "#frontier svg [data-model='3'] use"
    page.point_at(point)
    tip = page.evaluate("document.getElementById('tip').hidden ? '' : document.getElementById('tip').innerText")
    assert tip.splitlines()[0] == NAMES[2] and "generalisation: 26.0 ± " in tip
    page.evaluate("document.getElementById('facts').open = false")
    page.point_at(point, click=True)
    assert page.evaluate("document.getElementById('facts').open")
    assert page.evaluate("document.querySelector('#rows-of select').value") == NAMES[2]
    rows = page.evaluate("[...document.querySelectorAll('#rows-table tbody tr')].map(row => row.innerText)")
    assert len(rows) == 2  # of twelve known facts this model has ten, and most seeds agree
    assert all("wrong <i>" in row and "lost" in row and "</script><b>prompt" in row for row in rows)
    page.evaluate("document.getElementById('rows-of').elements.what.value = 'learned'")
    page.evaluate("document.getElementById('rows-of').dispatchEvent(new Event('input'))")
    assert page.evaluate("document.getElementById('rows-count').innerText").startswith("15 of 36 rows")
