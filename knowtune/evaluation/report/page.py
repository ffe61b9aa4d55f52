"""One page with everything inside: no link to the network, and nothing that a reader without scripts would miss."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from knowtune.evaluation.report.contents import Report
from knowtune.evaluation.report.sections import SECTIONS

HERE = Path(__file__).parent


def render_page(report: Report) -> str:
    """Render the page: the answer, then a fold for every section that has something to show.

    Bytes depend on the report alone: no clock, no random id.
    """
    environment = Environment(
        loader=FileSystemLoader([HERE, HERE / "sections"]), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    shown = [(section, section.show(report)) for section in SECTIONS]
    parts = [
        (section, environment.get_template(section.template).render(it=it, report=report))
        for section, it in shown
        if it is not None
    ]
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return environment.get_template("page.html.j2").render(report=report, parts=parts, style=style, script=script)
