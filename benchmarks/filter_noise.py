"""How much of injected label noise each filter finds on the embedded task, at several rates of wrong targets.

Noise is injected into rows without any (`knowtune.data.label_noise`): wrong targets (half of the same relation, half of
another) at the rates 0, 5, 10, 20 and 30 %, and 5 % contradictions. The pristine base answers the noisy rows, each
filter decides. A cell is recall / precision: the share of the noise that it drops, and the share of what it drops that
is this noise. The base rate is the precision of dropping at random; the recall of that is the share dropped.

What each filter can see, and what not:

- clean: reads texts alone. It drops every row of a contradiction, the right half too, and sees no wrong target that
  nothing contradicts. Two paraphrases of one fact with different targets are no contradiction to it.
- nearest, band: see a target that is far from the base's answer, so one of another relation, as far as the base's
  answers are at least of the right relation. The base does not know the new facts: its answer is as far from the right
  target as from a wrong one of the same relation, so wrong_same and contradictions stay near the base rate.
- mean_variance: keeps the nearest and some of the farthest, where wrong_other lies, so that it drops less of it than
  nearest does; `spread: 0` is nearest.
- interference: sees gradients that work against the others'. On a base that does not know the facts a wrong target of
  the right relation pulls as a right one does. Needs `answers.sketch`; left out where the answers stage makes none.

    python benchmarks/filter_noise.py --project FOLDER     # in which `dvc repro prepare answers` has run
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RATES = (0.0, 0.05, 0.1, 0.2, 0.3)
CONTRADICTIONS = 0.05
SHOWN = ("wrong_same", "wrong_other", "contradiction")
SKETCH = {"dimensions": 2048, "batch_size": 32, "seed": 0}
STRATEGIES: dict[str, dict[str, Any]] = {
    "nearest": {"keep": 0.8},
    "band": {"lo": 0.0, "hi": 0.9},
    "mean_variance": {"keep": 0.8, "spread": 1.0},
    "interference": {"keep": 0.8},
}


def main() -> None:
    """Inject noise, answer, filter, print a table per rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, required=True, help="holds data/base and data/prepared")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    args = parser.parse_args()
    data = args.project.resolve() / "data"
    rows = rows_without_noise(data / "prepared")
    print(
        f"{len(rows)} rows without noise, of {rows['fact'].nunique()} facts the base does not know. "
        "Cells: recall / precision, %"
    )
    for rate in RATES:
        with tempfile.TemporaryDirectory() as work:
            print_table(rows, rate, args.seed, data / "base", Path(work))


def rows_without_noise(prepared: Path) -> Any:
    """Undo the label noise that `prepare` has injected."""
    from knowtune.common.files import read_rows
    from knowtune.data.label_noise import NOISE_COLUMNS

    rows = read_rows(prepared / "train.jsonl")
    injected = read_rows(prepared / "label_noise.jsonl", NOISE_COLUMNS)
    further = injected["kind"].isin(["contradiction", "duplicate"])
    original = injected[~further].set_index("id")["original"]
    rows = rows[~rows["id"].isin(injected["id"][further])].reset_index(drop=True)
    changed = rows["id"].isin(original.index)
    rows.loc[changed, "target"] = rows["id"][changed].map(original)
    return rows


def print_table(without_noise: Any, rate: float, seed: int, base: Path, work: Path) -> None:
    """Inject noise at one rate, and score every filter and every chain of `clean` with one."""
    import numpy as np

    from knowtune.common.errors import UserError
    from knowtune.data.label_noise import inject
    from knowtune.evaluation.filter_scores import score_filter
    from knowtune.filters import FILTERS
    from knowtune.filters.base import Seen
    from knowtune.filters.chain import Limits, run_filters
    from knowtune.registry import member_class

    rates = {"wrong": rate, "contradictions": CONTRADICTIONS, "duplicates": 0.0, "empties": 0.0}
    rows, injected = inject(without_noise, rates, seed)
    answers = answer(rows, base, work)
    path = work / "answers/sketches.npy"
    seen = Seen(answers, np.load(path, mmap_mode="r") if path.exists() else None)
    kinds = injected.set_index("id")["kind"].reindex(rows["id"]).fillna("sound").to_numpy()
    shares = "; ".join(f"{kind} {100 * (kinds == kind).mean():.1f}" for kind in SHOWN)
    print(f"\n**{100 * rate:.0f} % wrong targets, {len(rows)} rows.** Base rates, %: {shares}")
    farther = separation(answers["distance"].to_numpy(), kinds)
    print(f"Farther than a row without noise, % (50: no difference): {farther}\n")
    print("| filter | dropped, % | " + " | ".join(SHOWN) + " | other rows dropped, % |")
    print("| --- |" + " ---: |" * (len(SHOWN) + 2))
    clean = ("clean", member_class(FILTERS, "filter", "clean")())
    chains = {"clean": [clean]}
    for name, options in STRATEGIES.items():
        one = (name, member_class(FILTERS, "filter", name)(**options))
        if "sketches" not in one[1].needs or seen.sketches is not None:
            chains |= {name: [one], f"clean + {name}": [clean, one]}
    for title, chain in chains.items():
        try:
            _, dropped = run_filters(rows, seen, chain, f"filter {title}", Limits(allow_lost=True))
        except UserError as error:
            print(f"| {title} | refused: {error} |")
            continue
        score = score_filter(rows, injected, dropped)
        cells = [cell(score["kinds"][kind]) for kind in SHOWN]
        share, lost = 100 * score["dropped"] / len(rows), 100 * score["sound_dropped"] / score["sound"]
        print(f"| {title} | {share:.1f} | " + " | ".join(cells) + f" | {lost:.1f} |")


def separation(distances: Any, kinds: Any) -> str:
    """Give, per kind of noise, the chance that such a row is farther than a row without noise; equal counts half."""
    from scipy.stats import mannwhitneyu

    sound = distances[kinds == "sound"]
    noisy = {kind: distances[kinds == kind] for kind in SHOWN}
    return "; ".join(
        f"{kind} {100 * mannwhitneyu(some, sound).statistic / (len(some) * len(sound)):.0f}"
        for kind, some in noisy.items()
        if len(some)
    )


def cell(score: dict[str, Any]) -> str:
    """Write recall / precision."""
    recall, precision = score["recall"], score["precision"]
    return "–" if recall is None else f"{100 * recall:.0f} / {100 * (precision or 0):.1f}"


def answer(rows: Any, base: Path, work: Path) -> Any:
    """Run the answers stage on rows, with sketches of the gradients where it makes them."""
    from knowtune.common.files import read_rows, write_rows
    from stages.core.params import read_yaml, write_yaml

    params = read_yaml(ROOT / "params.yaml")
    params["tracking"]["store"] = "none"
    params["answers"]["sketch"] = SKETCH
    write_yaml(work / "params.yaml", params)
    write_rows(work / "train.jsonl", rows)
    command = ["-m", "stages.answers", "--train", "train.jsonl", "--base", str(base), "--out", "answers"]
    with contextlib.suppress(FileExistsError):
        (work / "data").symlink_to(ROOT / "data")  # what the card of the embedded base names
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, *command], cwd=work, env=environment, check=True, stdout=subprocess.DEVNULL)
    return read_rows(work / "answers/answers.jsonl")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
