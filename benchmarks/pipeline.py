"""How long the embedded default takes, where the time goes, and what it fills on disk.

    python benchmarks/pipeline.py            # measures in a temporary copy of the project; about 10 minutes
    python benchmarks/pipeline.py --write    # also writes benchmarks/costs.json, which `make plan` reads
    python benchmarks/pipeline.py --tools    # what tracking and Prefect add: three further runs, about 20 minutes

It prints, stage by stage, the stage's own work and what lies around it (imports, DVC, process starts), then the same
for the whole, and a run in which nothing has changed. Held against it: at most 75 s for a run of three seeds, 3 GB for
all; at most a quarter of the time is not the stages' own; a no-op `dvc repro` or `cli run` under 2 s.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write benchmarks/costs.json")
    parser.add_argument("--cold", action="store_true", help="without the warm process (imports then count as own work)")
    parser.add_argument("--tools", action="store_true", help="compare: without tracking, with it, by Prefect")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        if args.tools:
            compare_tools(Path(place))
        else:
            measure(Path(place), cold=args.cold, write=args.write)


def measure(place: Path, *, cold: bool, write: bool) -> None:
    """Run the default once and print where its time goes."""
    folder = clone(place / "project", tracking=True)
    started = time.time()
    total = timed(["cli", "run", *(["--cold"] if cold else [])], folder)
    stages = [json.loads(line) for line in (folder / ".work/costs.jsonl").read_text().splitlines()]
    print_stages(stages, started, total)
    known = json.loads((folder / "data/baseline/metrics.json").read_text())["known"]
    took = next(stage["seconds"] for stage in stages if stage["stage"] == "base")
    print(f"base: {known:.1%} of the known facts, in held-out templates (at least 90 %); {took:.0f} s (at most 180)")
    print(f"dvc.lock after a run from nothing: {lock_state(folder)}")
    files = [path.lstat() for path in folder.rglob("*") if path.is_file()]
    size = sum(file.st_size / file.st_nlink for file in files)  # outs and cache are links to the same bytes
    print(f"on disk, all outs, cache, tracked artifacts and work folder: {size / 1e6:.0f} MB (at most 3000)")
    for name, again in (("dvc repro", ["dvc", "repro"]), ("cli run", ["cli", "run"]), ("make run", ["flows"])):
        took = statistics.median(timed(again, folder, quiet=True) for _ in range(5))
        print(f"no-op {name}: median {took:.2f} s of five" + ("" if name == "make run" else " (at most 2)"))
    if write:
        write_costs(stages)


def compare_tools(place: Path) -> None:
    """Run the default without tracking, with it, and by Prefect, each from nothing in a clone of its own."""
    seconds = {}
    for name, command, tracking in (
        ("cli run, tracking none", ["cli", "run"], False),
        ("make run WORKERS=1, tracking mlflow", ["flows", "--workers", "1"], True),
        ("make run WORKERS=2, tracking mlflow", ["flows", "--workers", "2"], True),
    ):
        folder = clone(place / name.replace(" ", "-"), tracking=tracking)
        seconds[name] = timed(command, folder, quiet=True)
        least = next(iter(seconds.values()))
        print(
            f"{name}: {seconds[name]:.0f} s, ratio {seconds[name] / least:.3f}; dvc.lock {lock_state(folder)}",
            flush=True,
        )
    print("the ratio of the second to the first is at most 1.10")


def clone(folder: Path, *, tracking: bool) -> Path:
    """Clone what is committed, with the working tree's params."""
    subprocess.run(["git", "clone", "--quiet", "--local", str(ROOT), str(folder)], check=True)
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (folder / "params.yaml").write_text(text if tracking else text.replace("store: mlflow", "store: none"))
    return folder


def lock_state(folder: Path) -> str:
    """Say whether dvc.lock, or at least every out in it, is the committed one (the setting `tracking` is a dep)."""
    committed = subprocess.run(["git", "show", "HEAD:dvc.lock"], cwd=folder, capture_output=True, text=True).stdout
    found = (folder / "dvc.lock").read_text(encoding="utf-8")
    if found == committed:
        return "as committed, byte for byte"
    outs = [
        {name: stage.get("outs") for name, stage in YAML(typ="safe").load(text)["stages"].items()}
        for text in (found, committed)
    ]
    return "with every out as committed" if outs[0] == outs[1] else "CHANGED"


def print_stages(stages: list[dict[str, float]], started: float, total: float) -> None:
    """Print each stage's own time and what lay before it; then the whole."""
    print(f"\n{'stage':28}{'own work':>10}{'around':>10}{'peak':>10}")
    end, own = started, 0.0
    for stage in stages:
        before, peak = stage["started"] - end, stage["peak_bytes"] / 1e6
        print(f"{stage['stage']:28}{stage['seconds']:9.1f}s{before:9.2f}s{peak:8.0f}MB")
        end, own = stage["ended"], own + stage["seconds"]
    around = total - own
    print(f"{'whole':28}{own:9.1f}s{around:9.1f}s")
    print(f"{total / 60:.1f} minutes (at most 8); around the stages' own work: {around / total:.0%} (at most 25 %)")


def timed(command: list[str], folder: Path, *, quiet: bool = False) -> float:
    """Time a command in a clone."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", *command], cwd=folder, env=ENVIRONMENT, check=True, capture_output=quiet)
    return time.perf_counter() - started


def write_costs(stages: list[dict[str, float]]) -> None:
    """Write what each stage took, for `make plan`."""
    costs = {str(stage["stage"]): round(stage["seconds"], 1) for stage in stages}
    (ROOT / "benchmarks/costs.json").write_text(json.dumps(costs, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
