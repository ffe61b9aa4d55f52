"""What `make new` writes does run: one real preset, from a CSV to the leaderboard."""

from __future__ import annotations

import csv
import json

from stages.core.params import read_yaml, write_yaml
from tests.pipeline.conftest import Project


def test_a_written_preset_runs(project: Project) -> None:
    data = project.folder / 'my $files/it\'s "Zor": colours?.csv'
    data.parent.mkdir()
    with data.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["thing", "Question?", "answer"])
        for i in range(24):
            colour = ["red", "green, or blue", "black: the colour"][i % 3]
            rows.writerows([f"Zor{i}", wording, colour] for wording in (f"The colour of Zor{i} is", f"Zor{i} has the"))
    shown = project.command("cli", "new", "--data", str(data), "--model", "data/base", "--name", "zor").stdout
    assert "make run PRESET=zor" in shown

    path = project.folder / "presets/zor.yaml"
    preset = read_yaml(path)
    assert preset["source"]["columns"] | {"id": None} == {
        "id": None,
        "fact": "thing",
        "relation": None,
        "subject": "thing",
        "template": None,
        "prompt": "Question?",
        "target": "answer",
    }
    assert preset["source"]["data"] == 'my $files/it\'s "Zor": colours?.csv'
    preset["tracking"]["store"] = "none"
    preset["training"]["epochs"] = 1
    preset["runs"] = {"lora": {**preset["runs"]["lora"], "seeds": [0]}}
    write_yaml(path, preset)

    project.run("--preset", "zor")
    folder = project.folder / "workspaces/zor/data"
    summary = json.loads((folder / "prepared/summary.json").read_text())
    assert (summary["facts"], summary["rejected"]) == (24, 0)
    assert summary["test"] == {"generalisation": 5, "reliability": 40}
    board = (folder / "report/leaderboard.md").read_text()
    assert [line.split("|")[1].strip() for line in board.splitlines()[2:4]] == ["base", "lora"]
