"""Write the report: tables for programs, Markdown, and one self-contained page.

Everything here is reproducible: no clock, no host, no commit.
"""

from __future__ import annotations

from pathlib import Path

from knowtune.common.files import write_json
from knowtune.common.svg import svg_text
from knowtune.evaluation.leaderboard import leaderboard_markdown
from knowtune.evaluation.report.contents import Report
from knowtune.evaluation.report.page import render_page
from knowtune.evaluation.report.plane import draw_frontier


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
    (folder / "frontier.svg").write_text(svg_text(draw_frontier(report)), encoding="utf-8")
    page = folder / "index.html"
    page.write_text(render_page(report), encoding="utf-8")
    return page
