"""What semantic distance and gradient sketches cost: speed against plain loops, agreement, and memory.

    python benchmarks/semantics.py --data FOLDER --model FOLDER        # ParaRel prompts and a model that knows some
    python benchmarks/semantics.py --only memory                       # one part: distances, sketches, filter, memory

distances   answers and distances of N prompts, against `generate` and a distance for one prompt after the other. The
            loop runs over every k-th prompt (--loop) and its time is scaled; both sides in one process, the loop in two
            halves, before and after ours. Answers that differ are listed with the gap between the two largest logits
            where they part: only rounding may explain it. For both sides, garbage collection leaves out what was loaded
            before, as it does in the pipeline's warm process.
sketches    against a frozen forward and backward pass, and bytes a row.
filter      the exact filter `mean_variance` on 1,000,000 distances.
memory      (Linux only) peak of a process of its own that runs the stage's loop over N rows of one-token answers of a
            tiny model, for growing N; and over 1,000,000 rows whose answers are given.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from knowtune.checkpoints.base import load_model
from knowtune.data.contract import ROW_COLUMNS
from knowtune.models.compute import Compute
from knowtune.semantics.distance import text_distances
from knowtune.semantics.representations.input_embedding import InputEmbedding
from knowtune.tasks.knowledge import Knowledge
from knowtune.tasks.right_answers import right_answers
from knowtune.text.encode_rows import encode_texts

PARTS = ("distances", "sketches", "filter", "memory")
ROUNDING = 1e-4  # between two logits; a smaller gap is what another order of sums can close
LONGEST, EXTRA = 8, 4  # tokens of an answer, and beyond its target's length
TASK = Knowledge()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with pararel-train.jsonl")
    parser.add_argument("--model", type=Path, help="a causal language model in transformers layout")
    parser.add_argument("--prompts", type=int, default=5000)
    parser.add_argument("--loop", type=int, default=1, help="the loop asks every k-th prompt")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--stream", nargs=2, metavar=("ROWS", "HOW"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.stream:
        stream(int(args.stream[0]), args.stream[1])
        return
    chosen = [args.only] if args.only else PARTS
    if {"distances", "sketches"} & set(chosen):
        if not args.data or not args.model:
            parser.error("--data and --model are needed for distances and sketches")
        rows = read_prompts(args.data, args.prompts)
        model, tokenizer = open_model(args.model)
        print(f"{args.model.name}: {len(rows)} prompts, batch {args.batch}, {args.threads} threads")
    if "distances" in chosen:
        distances(args, model, tokenizer, rows)
    if "sketches" in chosen:
        sketches(args, model, tokenizer, rows.head(1024))
    if "filter" in chosen:
        exact_filter()
    if "memory" in chosen:
        memory(args.threads)


def read_prompts(folder: Path, count: int) -> pd.DataFrame:
    """Read ParaRel's prompts as rows."""
    lines = (folder / "pararel-train.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[:count]]
    empty = dict.fromkeys(ROW_COLUMNS, "")
    return pd.DataFrame([{**empty, "id": r["id"], "prompt": r["prompt"] + " ", "target": r["target"]} for r in rows])


def open_model(folder: Path) -> tuple[Any, Any]:
    """Load model and tokenizer."""
    from transformers import AutoTokenizer

    return load_model(folder, Compute(), TASK), AutoTokenizer.from_pretrained(folder, local_files_only=True)


def distances(args: argparse.Namespace, model: Any, tokenizer: Any, rows: pd.DataFrame) -> None:
    """Compare batches with the loop."""
    sample = rows.iloc[:: args.loop]
    half = len(sample) // 2
    by_loop(model, tokenizer, sample.head(8))  # warm both sides
    batched(model, tokenizer, rows.head(256), args.batch)
    gc.freeze()
    start = time.perf_counter()
    alone = by_loop(model, tokenizer, sample.iloc[:half])
    between = time.perf_counter()
    ours, _ = batched(model, tokenizer, rows, args.batch)
    after = time.perf_counter()
    alone += by_loop(model, tokenizer, sample.iloc[half:])
    looped, taken = time.perf_counter() - after + between - start, after - between
    scaled = looped * len(rows) / len(sample)
    scope = "all prompts" if args.loop == 1 else f"{len(sample)} of them, scaled"
    print(f"loop, one `generate` a prompt    {scaled:8.1f} s    ({scope}: {looped:.1f} s)")
    print(f"knowtune                         {taken:8.1f} s    {scaled / taken:.1f} x, {len(rows) / taken:.0f} rows/s")
    there = ours[:: args.loop]
    differ = [i for i, (a, b) in enumerate(zip(there, alone, strict=True)) if a != b]
    print(f"identical answers: {1 - len(differ) / len(alone):.3%} of {len(alone)}; {len(differ)} differ")
    wide = 0
    for i in differ:
        row = sample.iloc[i]
        size = gap(model, tokenizer, row, there[i], alone[i])
        wide += size >= ROUNDING
        print(f"  {row['id']}: {alone[i]!r} alone, {there[i]!r} batched; gap {size:.1e}")
    print(f"differences that rounding does not explain (gap of {ROUNDING:g} or more): {wide}")


def batched(model: Any, tokenizer: Any, rows: pd.DataFrame, batch: int) -> tuple[list[str], list[float]]:
    """Answer and compare as the stage does."""
    answers = TASK.evaluator.answer(model, tokenizer, rows, batch, LONGEST, "answers", EXTRA)
    vectors = InputEmbedding().open(model, tokenizer)
    return answers, TASK.evaluator.distances(vectors, tokenizer, answers, right_answers(rows), EXTRA)


@torch.inference_mode()
def by_loop(model: Any, tokenizer: Any, rows: pd.DataFrame) -> list[str]:
    """Ask and compare one row after the other, each with its own limit."""
    vectors, answers = InputEmbedding().open(model, tokenizer), []
    for prompt, target in zip(rows["prompt"], rows["target"], strict=True):
        prompt_ids = torch.tensor(encode_texts(tokenizer, [prompt.rstrip(" ")], 2**31))
        limit = min(LONGEST, EXTRA + len(tokenizer(target, add_special_tokens=False)["input_ids"]))
        written = model.generate(input_ids=prompt_ids, attention_mask=torch.ones_like(prompt_ids), max_new_tokens=limit,
                                 do_sample=False, pad_token_id=0)  # fmt: skip
        answers.append(tokenizer.decode(written[0, prompt_ids.shape[1] :], skip_special_tokens=True).strip())
        text_distances(vectors, answers[-1:], [[target]])
    return answers


@torch.inference_mode()
def gap(model: Any, tokenizer: Any, row: Any, one: str, other: str) -> float:
    """Return the gap between the two largest logits where two answers part."""
    ids, gaps = encode_texts(tokenizer, [row["prompt"].rstrip(" ")], 2**31)[0], []
    start = len(ids)
    for _ in range(LONGEST):
        first, second = model(input_ids=torch.tensor([ids])).logits[0, -1].topk(2).values.tolist()
        gaps.append(first - second)
        ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        common = tokenizer.decode(ids[start:], skip_special_tokens=True).strip()
        if not (one.startswith(common) and other.startswith(common)):
            break
    return gaps[-1]


def sketches(args: argparse.Namespace, model: Any, tokenizer: Any, rows: pd.DataFrame) -> None:
    """Compare with the pass that no gradient can be had without."""
    from knowtune.gradients.sketches import Sketcher, sketch_rows

    encoded: Sequence[Any] = TASK.encode(tokenizer, rows)
    with Sketcher(model, args.dimensions, 0) as sketcher:
        sketch_rows(sketcher, encoded[:64], TASK, 32, "sketches")
        taken, frozen = [], []
        for _ in range(5):
            start = time.perf_counter()
            sketch_rows(sketcher, encoded, TASK, 32, "sketches")
            taken.append(time.perf_counter() - start)
            frozen.append(frozen_pass(model, encoded))
    one, other = sorted(taken)[2], sorted(frozen)[2]
    disk = f"{4 * args.dimensions} bytes a row on disk"
    print(f"frozen forward and backward pass {other / len(rows) * 1e3:8.2f} ms a row")
    name = f"sketch of {args.dimensions} numbers"
    print(f"{name:32} {one / len(rows) * 1e3:8.2f} ms a row    {one / other:.2f} x, {disk}")


def frozen_pass(model: Any, rows: Sequence[Any]) -> float:
    """Go forward and backward through frozen weights, without hooks; return seconds."""
    from knowtune.gradients.per_example import PerExampleGradients
    from knowtune.text.batches import batches_by_length

    hooks = [(module, module._forward_hooks) for module in model.modules()]
    for module, _ in hooks:
        module._forward_hooks = type(module._forward_hooks)()
    start = time.perf_counter()
    with PerExampleGradients(model, {}):
        handle = model.get_input_embeddings().register_forward_hook(lambda m, i, output: output.requires_grad_(True))
        for batch in batches_by_length([len(row.input_ids) for row in rows], 32):
            part = [rows[i] for i in batch]
            TASK.objective.losses(model(**TASK.inputs(part)).logits, TASK.objective.targets(part)).sum().backward()
        handle.remove()
    taken = time.perf_counter() - start
    for module, own in hooks:
        module._forward_hooks = own
    return taken


def exact_filter() -> None:
    """Time `mean_variance` on a million distances."""
    import numpy as np

    from knowtune.filters import FILTERS
    from knowtune.filters.base import Seen
    from knowtune.registry import member_class

    if "mean_variance" not in FILTERS:
        print("mean_variance: no such filter here")
        return
    drawn = np.random.default_rng(0).uniform(0, 2, 1_000_000)
    answers = pd.DataFrame({"distance": drawn})
    member = member_class(FILTERS, "filter", "mean_variance")()
    rows = pd.DataFrame({"id": np.arange(len(drawn)).astype(str)})
    start = time.perf_counter()
    member.reasons(rows, Seen(answers))
    print(f"mean_variance on {len(drawn):,} distances: {time.perf_counter() - start:.2f} s")


def memory(threads: int) -> None:
    """Print the peak of processes that work through more and more rows."""
    for count, how in ((10_000, "generated"), (30_000, "generated"), (100_000, "generated"), (1_000_000, "given")):
        command = [sys.executable, __file__, "--threads", str(threads), "--stream", str(count), how]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
        print(done.stdout.strip())


def stream(count: int, how: str) -> None:
    """Run the stage's loop over rows that are made up, with the work folder in a temporary folder."""
    from knowtune.common.files import count_rows, join_files, write_rows
    from knowtune.common.parts import by_parts
    from knowtune.data.contract import ANSWERS, ROWS, check

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_rows(folder / "train.jsonl", count)
        model, tokenizer = make_model()
        vectors = InputEmbedding().open(model, tokenizer)

        def make(rows: pd.DataFrame, label: str, path: Path) -> None:
            rows = check(rows, ROWS, "rows")
            answers = rows["target"].str[1:].tolist()
            if how == "generated":
                answers = TASK.evaluator.answer(model, tokenizer, rows, 128, 1, label, 0)
            distances = TASK.evaluator.distances(vectors, tokenizer, answers, right_answers(rows), 0)
            table = {"id": rows["id"], "answer": answers, "correct": False, "num_tokens": 3, "distance": distances}
            write_rows(path, check(pd.DataFrame(table), ANSWERS, "answers"))

        start = time.perf_counter()
        held = resident("VmRSS")
        join_files(by_parts(folder / "train.jsonl", folder / "work", ".jsonl", "rows", make), folder / "answers.jsonl")
        taken = time.perf_counter() - start
        assert count_rows(folder / "answers.jsonl") == count
    peak = resident("VmHWM")
    print(f"{count:9,} rows, answers {how}: peak {peak / 2**20:5.0f} MiB ({held / 2**20:.0f} before), {taken:.0f} s")


def make_rows(path: Path, count: int) -> None:
    """Write rows whose prompts all differ."""
    empty = dict.fromkeys(ROW_COLUMNS, "")
    with path.open("w", encoding="utf-8") as file:
        for i in range(count):
            row = {**empty, "id": str(i), "fact": f"f{i}", "prompt": f"Number {i} is ", "target": f"word{i % 1000}"}
            file.write(json.dumps(row) + "\n")


def make_model() -> tuple[Any, Any]:
    """Make a tiny Llama that reads bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({letter: i for i, letter in enumerate(["<s>", "</s>", *letters])}, []))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**size, vocab_size=len(tokenizer), num_key_value_heads=2)).eval(), tokenizer


def resident(what: str) -> int:
    """Return this process's resident memory now (VmRSS) or at its peak (VmHWM), in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
