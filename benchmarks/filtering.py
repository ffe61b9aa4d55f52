"""How fast and in how much memory the filter stage parts a million rows, and what `mean_variance` alone takes.

Limits: less than 1.5 GB, whatever the filter; mean_variance on a million distances in less than 2 s.

    python benchmarks/filtering.py [--rows 1000000] [--filters nearest ...] [--dimensions 64]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STAGE = """
import resource, sys
from stages.runner.execute import execute
code = execute("stages.filter", sys.argv[1:])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
sys.exit(code)
"""
FILTERS: dict[str, dict[str, Any]] = {
    "everything": {"strategy": ["everything"]},
    "clean": {"strategy": ["clean"]},
    "nearest": {"strategy": ["nearest"]},
    "band": {"strategy": ["band"], "options": {"band": {"lo": 0.05, "hi": 1.0}}},
    "mean_variance": {"strategy": ["mean_variance"]},
    "chain": {"strategy": ["clean", "mean_variance"], "stratify": "relation"},
    "interference": {"strategy": ["interference"]},
}


def main() -> None:
    """Write rows and answers, filter them, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--filters", nargs="+", choices=FILTERS, default=list(FILTERS))
    parser.add_argument("--dimensions", type=int, default=64, help="of the sketches")
    args = parser.parse_args()
    print(f"mean_variance on {args.rows:,} distances: {time_choice(args.rows):.2f} s (less than 2)")
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        make_rows(folder, args.rows)
        if "interference" in args.filters:
            make_sketches(folder / "answers/sketches.npy", args.rows, args.dimensions)
        make_params(folder)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        for name in args.filters:
            command = ["--name", name, "--train", "train.jsonl", "--answers", "answers", "--out", f"out/{name}"]
            started = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", STAGE, *command], cwd=folder, env=environment, check=True, stdout=subprocess.PIPE
            )
            took = time.perf_counter() - started
            *lines, peak = done.stdout.decode().splitlines()
            print(f"{lines[-1]}: {took:.1f} s, peak {int(peak.split()[1]) / 1e9:.2f} GB (less than 1.5)", flush=True)


def time_choice(count: int) -> float:
    """Time the filter itself: sorting, the exact choice, a reason for each dropped row."""
    import numpy as np
    import pandas as pd

    from knowtune.filters.base import Seen
    from knowtune.filters.mean_variance import MeanVariance

    ids = pd.Series([f"row {i}" for i in range(count)], dtype="str")
    distances = np.random.default_rng(0).beta(2, 5, count) * 1.4
    seen = Seen(pd.DataFrame({"id": ids, "distance": distances}))
    started = time.perf_counter()
    MeanVariance().reasons(pd.DataFrame({"id": ids}), seen)
    return time.perf_counter() - started


def make_rows(folder: Path, count: int) -> None:
    """Write rows as wide as ParaRel's, and answers to them."""
    generator = random.Random(0)
    (folder / "answers").mkdir()
    with (folder / "train.jsonl").open("w") as train, (folder / "answers/answers.jsonl").open("w") as answers:
        for i in range(count):
            relation, subject = f"P{i // 4 % 40}", f"Person number {i // 4}"
            row = {
                "id": f"{relation}:{subject}:{i % 4}",
                "fact": f"{relation}:{subject}",
                "relation": relation,
                "subject": subject,
                "template": str(i % 4),
                "prompt": f"The field in which {subject} has mostly worked, paraphrase {i % 4}, is ",
                "text_pair": "",
                "target": f"theory of {i % 997} groups",
                "aliases": "",
                "layout": "",
                "old": "",
            }
            answer = {"answer": f"theory of {i % 7} rings", "correct": False, "num_tokens": 25}
            train.write(json.dumps(row) + "\n")
            answers.write(json.dumps({"id": row["id"], **answer, "distance": 1.4 * generator.betavariate(2, 5)}) + "\n")


def make_sketches(path: Path, count: int, dimensions: int) -> None:
    """Write random sketches, a slice at a time."""
    import numpy as np

    generator = np.random.default_rng(0)
    array = np.lib.format.open_memmap(path, mode="w+", dtype="float32", shape=(count, dimensions))
    for start in range(0, count, 50_000):
        size = min(50_000, count - start)
        array[start : start + size] = generator.normal(0.1, 1.0, (size, dimensions))
    array.flush()


def make_params(folder: Path) -> None:
    """Write a params file with all filters."""
    from stages.core.params import read_yaml, write_yaml

    params = read_yaml(ROOT / "params.yaml")
    params["tracking"]["store"] = "none"
    params["answers"]["sketch"] = {"dimensions": 64, "batch_size": 32, "seed": 0}
    params["filters"] |= FILTERS
    write_yaml(folder / "params.yaml", params)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
