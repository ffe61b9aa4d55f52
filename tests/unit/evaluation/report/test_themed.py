from __future__ import annotations

import re

from matplotlib.figure import Figure

from knowtune.common.svg import svg_text
from knowtune.evaluation.report.legends import Key, Legend
from knowtune.evaluation.report.themed import as_picture, themed


def drawn() -> str:
    figure = Figure()
    for axes, legend in zip(figure.subplots(1, 3), (True, False, True), strict=True):
        axes.bar([0, 1], [1, 2], label="a & b")
        axes.plot([0, 1], [0.123456, 2], "o", color="C3", label="points", gid="model-7")
        if legend:
            axes.legend()
    return svg_text(figure)


def test_legends_become_text_and_equal_ones_of_several_panels_stand_once() -> None:
    picture = as_picture(drawn(), "one")
    assert "a &amp; b" not in picture.svg and "points" not in picture.svg
    assert picture.legends == [Legend([1, 3], [Key("var(--c3)", "points"), Key("var(--c0)", "a & b")])]
    assert picture.svg.count("<g") == picture.svg.count("</g>") + len(re.findall(r"<g\b[^>]*/>", picture.svg))


def test_colours_are_the_pages() -> None:
    assert not re.search("#(000000|ffffff|1f77b4|d62728)", themed(drawn(), "one"))
    assert "var(--ink)" in themed(drawn(), "one")


def test_ids_are_the_pictures_own_and_only_those_that_are_used() -> None:
    one, two = (set(re.findall(r' id="([^"]*)"', themed(drawn(), name))) for name in ("one", "two"))
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', themed(drawn(), "one")))
    assert one == used and one and not one & two


def test_points_of_models_can_be_met() -> None:
    assert themed(drawn(), "one").count('data-model="7" tabindex="0"') == 3
