"""Write the report: tables for programs, Markdown, and one self-contained page.

Everything here is reproducible: no clock, no host, no commit.
"""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from knowtune.common.files import write_json
from knowtune.common.svg import svg_text
from knowtune.evaluation.interpolation import interpolation_rows
from knowtune.evaluation.leaderboard import arrow, leaderboard_markdown, leaderboard_rows, legend, metric_class
from knowtune.evaluation.plots import plot_frontier, plot_learning_curves, plot_similarity
from knowtune.evaluation.report import Report
from knowtune.evaluation.retention_columns import set_rows


def write_report(report: Report, folder: Path) -> Path:
    """Write all files of the report.

    Returns:
        The page.
    """
    (folder / "curves").mkdir(parents=True, exist_ok=True)
    for (run, split), curve in report.curves.groupby(["run", "split"]):
        mean = curve.groupby("step")["loss"].mean()  # over seeds
        mean.to_csv(folder / "curves" / f"{run}.{split}.csv")
    write_json(folder / "leaderboard.json", {entry.name: entry.summary for entry in report.entries})
    means = {e.name: {name: value["mean"] for name, value in e.summary.items()} for e in report.entries}
    write_json(folder / "metrics.json", means)  # for `dvc metrics`, which makes every number a column
    write_json(folder / "filters.json", report.filters)
    markdown = leaderboard_markdown(report.entries, report.metrics, report.known, report.cautions, report.sets)
    (folder / "leaderboard.md").write_text(markdown, encoding="utf-8")
    models = [entry for entry in report.entries if not entry.constant]
    frontier = svg_text(plot_frontier(models, *report.axes, report.interpolations), bbox_inches="tight")
    (folder / "frontier.svg").write_text(frontier, encoding="utf-8")
    page = folder / "index.html"
    page.write_text(render_page(report, frontier), encoding="utf-8")
    return page


def render_page(report: Report, frontier: str) -> str:
    """Render one HTML page with everything inside: no script, no link to the network."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    similarity = plot_similarity(report.curves)
    head, rows = leaderboard_rows(report.entries, report.metrics, report.sets)
    about = [(m, legend(m, report.known), metric_class(m).unit, arrow(m)) for m in report.metrics]
    return environment.get_template("report.html.j2").render(
        report=report,
        head=head,
        rows=rows,
        about=[*about, *((one.name, one.legend(), one.unit, one.arrow) for one in report.sets)],
        retained=set_rows(report.sets, report.retained),
        frontier=frontier,
        interpolations=interpolation_rows(report.interpolations),
        curves=svg_text(plot_learning_curves(report.curves), bbox_inches="tight"),
        similarity=None if similarity is None else svg_text(similarity, bbox_inches="tight"),
    )
