"""How fast and in how much memory `prepare` reads a million rows of JSON lines.

Limits: 20,000 rows a second or more, less than 1.5 GB. Beside it: the time that Python's json alone needs for the file,
which is the least that any reader in Python can take.

    python benchmarks/preparing.py [--rows 1000000]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAGE = """
import resource, sys
sys.argv = ["stages.prepare", *sys.argv[1:]]
from stages.runner.execute import execute
code = execute("stages.prepare", sys.argv[1:])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
sys.exit(code)
"""


def main() -> None:
    """Write the files, prepare them, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_base(folder / "model")
        size = make_rows(folder / "rows/train.jsonl", args.rows)
        (folder / "text.jsonl").write_text('{"text": "It rained all day."}\n')
        make_params(folder)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        run = [sys.executable, "-m", "stages.base", "--source", "model", "--out", "base"]
        subprocess.run(run, cwd=folder, env=environment, check=True)
        started = time.perf_counter()
        with (folder / "rows/train.jsonl").open("rb") as file:
            for line in file:
                json.loads(line)
        least = time.perf_counter() - started
        started = time.perf_counter()
        command = [
            sys.executable,
            "-c",
            STAGE,
            "--data",
            "rows",
            "--text",
            "text.jsonl",
            "--base",
            "base",
            "--out",
            "out",
        ]
        done = subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        took = time.perf_counter() - started
        peak = int(done.stdout.split()[-1])
        print(done.stdout.strip())
        print(f"{args.rows:,} rows, {size / 1e6:.0f} MB of JSON lines, in {took:.1f} s, imports and writing included")
        print(f"{args.rows / took:,.0f} rows/s (at least 20,000); Python's json alone: {args.rows / least:,.0f} rows/s")
        print(f"peak memory {peak / 1e9:.2f} GB (less than 1.5)")


def make_rows(path: Path, count: int) -> int:
    """Write rows as wide as ParaRel's; returns their bytes."""
    path.parent.mkdir()
    with path.open("w", encoding="utf-8") as file:
        for i in range(count):
            row = {
                "id": f"P{i // 4 % 40}:Person number {i // 4}:{i % 4}",
                "relation": f"P{i // 4 % 40}",
                "subject": f"Person number {i // 4}",
                "prompt": f"The field in which Person number {i // 4} has mostly worked, template {i % 4}, is",
                "target": f"theory of {i % 997} groups",
            }
            file.write(json.dumps(row) + "\n")
    return path.stat().st_size


def make_base(folder: Path) -> None:
    """Save a small random model with the embedded tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from knowtune.data.authored import read_authored
    from knowtune.training.build_embedded import build_tokenizer

    tokenizer = build_tokenizer(read_authored(ROOT / "data/raw"), 2048)
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                         num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=128)  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_params(folder: Path) -> None:
    """Write a params file whose source is the one file."""
    from stages.core.params import read_yaml, write_yaml

    params = read_yaml(ROOT / "params.yaml")
    params["tracking"]["store"] = "none"
    params["base"] = {"model": "folder", "path": "model"}
    params["source"] = {
        "format": "files",
        "data": "rows",
        "text": "text.jsonl",
        "text_column": "text",
        "files": {"train": "train.jsonl", "validation": None, "test": None, "known": None},
        "held_out": {"validation": 0.01, "test": 0.01},
        "several_answers": False,
        "columns": {"id": "id", "fact": ["relation", "subject"], "relation": "relation", "subject": "subject",
                    "template": None, "prompt": "prompt", "target": "target"},
    }  # fmt: skip
    params["prepare"] = {"seed": 0, "max_facts": None, "max_known": None, "max_texts": None, "max_examples": 2000,
                         "max_rejected": 0.01,
                         "label_noise": dict.fromkeys(params["prepare"]["label_noise"], 0)}  # fmt: skip
    params["evaluate"]["metrics"] = ["reliability", "generalisation", "text_loss"]  # no others need no known rows
    write_yaml(folder / "params.yaml", params)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
