"""What scoring by Fisher information costs: the authors' loop at batch 1 against ours, the bound, and peak memory.

    python benchmarks/fisher.py --model FOLDER                          # a causal language model
    python benchmarks/fisher.py --model FOLDER --task classification    # a backbone with a new head

Both sides run in turn in one process, and the medians are compared. The bound is the loop's time over (one frozen,
batched forward and backward pass + the per-example weight products at the measured rate of a large matrix product):
what is left if squaring and adding were free. The same work is then shared out to as many processes of one thread as
there are threads, by accelerate, which is how several cores score best. The relative error leaves out parameters
without influence (the keys' biases in attention), whose gradients are rounding alone: 1e-8 of the largest diagonal's
norm is added to each norm.

Memory (Linux only) is the peak of a process of its own above what it held with the model loaded, and the weights, in
multiples of the weights. Two rows of two tokens are scored before: what the libraries' code takes once is not the
scoring's. Without --model, a small Llama is made.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from knowtune.gradients.fisher import fisher_diagonal, parameters_in
from knowtune.gradients.options import Scoring
from knowtune.gradients.pass_size import tokens_per_pass
from knowtune.tasks.base import Task
from knowtune.tasks.classification import Classification
from knowtune.tasks.knowledge import Knowledge
from knowtune.text.encoded import Encoded, Labelled


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a folder in transformers layout")
    parser.add_argument("--task", choices=["knowledge", "classification"], default="knowledge")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=["scored", "loop", "shared"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.model is None:
        args.model = Path(tempfile.mkdtemp()) / "model"
        make_model().save_pretrained(args.model)
    task: Task = Knowledge() if args.task == "knowledge" else Classification(labels=["a", "b"])
    torch.manual_seed(0)
    model = task.load_model(args.model).eval().to(args.device)
    rows = make_rows(args, model.config.vocab_size)
    scoring = Scoring(batch_size=args.batch)
    at_once = max(1, min(args.batch, tokens_per_pass(model) // args.tokens))
    sides: dict[str, Callable[[], Any]] = {
        "loop": lambda: by_loop(model, rows, task),
        "scored": lambda: fisher_diagonal(model, rows, task, parameters_in(model), scoring),
        "frozen": lambda: frozen_pass(model, rows, task, args.batch),
    }
    if args.only == "shared":
        shared(sides["scored"], args.rounds)
        return
    if args.only:
        warm_up = make_rows(argparse.Namespace(task=args.task, rows=2, tokens=2), model.config.vocab_size)
        by_loop(model, warm_up, task)
        fisher_diagonal(model, warm_up, task, parameters_in(model), scoring)
        held = reset_peak()
        sides[args.only]()
        print(peak() - held)
        return
    num = sum(p.numel() for p in model.parameters())
    size = f"{len(rows)} rows of {args.tokens} tokens, {at_once} a pass"
    print(f"{args.model.name}: {num:,} parameters, {size}, {args.threads} threads, {args.device}")
    times = compare(sides, args.rounds, args.device)
    rate = matrix_rate(args.device)
    products = num_products(model, rows) / rate
    reference, batched = sides["loop"](), sides["scored"]()
    noise = 1e-8 * max(float(values.norm()) for values in reference.values())
    worst = max(float((batched[n] - reference[n]).norm() / (reference[n].norm() + noise)) for n in reference)
    speedup, bound = times["loop"] / times["scored"], times["loop"] / (times["frozen"] + products)
    a_row = {
        name: f"{taken / len(rows) * 1e3:8.2f} ms a row" for name, taken in {**times, "products": products}.items()
    }
    print(f"loop at batch 1     {a_row['loop']}")
    print(f"knowtune            {a_row['scored']}    {speedup:.2f} x")
    if args.device == "cpu" and args.threads > 1:
        taken = in_processes(args)
        several = f"{taken / len(rows) * 1e3:8.2f} ms a row    {times['loop'] / taken:.2f} x"
        print(f"  in {args.threads} processes    {several}, {times['loop'] / taken / bound:.0%} of the bound")
    print(f"frozen pass         {a_row['frozen']}")
    print(f"weight products     {a_row['products']}, at {rate / 1e9:.0f} GFLOP/s")
    print(f"bound               {bound:.2f} x; reached {speedup / bound:.0%} of it")
    print(f"largest relative error of a parameter's diagonal against the loop: {worst:.1e}")
    if args.device == "cpu":
        memory(args, sum(p.numel() * p.element_size() for p in model.parameters()))


def make_model() -> Any:
    """Make a small Llama."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    size = {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 6, "num_attention_heads": 6}
    return LlamaForCausalLM(LlamaConfig(**size, vocab_size=4096, num_key_value_heads=2, tie_word_embeddings=True))


def make_rows(args: argparse.Namespace, vocabulary: int) -> list[Any]:
    """Draw rows of tokens, all of them learned."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(5, vocabulary, (args.rows, args.tokens), generator=generator).tolist()
    if args.task == "classification":
        return [Labelled(ids, [0] * len(ids), float(i % 2)) for i, ids in enumerate(drawn)]
    return [Encoded(ids, 1, len(ids)) for ids in drawn]


def by_loop(model: Any, rows: Sequence[Any], task: Task) -> dict[str, torch.Tensor]:
    """Square the gradient of one example after the other, as the definition says."""
    sums = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    device = next(model.parameters()).device
    for row in rows:
        targets = task.objective.targets([row]).to(device)
        logits = model(**{name: x.to(device) for name, x in task.inputs([row]).items()}).logits
        (task.objective.losses(logits, targets).sum() / task.objective.num_targets(targets)).backward()
        for name, p in model.named_parameters():
            if p.grad is not None:
                sums[name] += p.grad.square()
        model.zero_grad()
    return {name: total / len(rows) for name, total in sums.items()}


def frozen_pass(model: Any, rows: Sequence[Any], task: Task, batch: int) -> None:
    """Go forward and backward through frozen weights: what no way of scoring can leave out."""
    flags = [p.requires_grad for p in model.parameters()]
    model.requires_grad_(False)
    model.config.use_cache, cache = False, getattr(model.config, "use_cache", None)
    embeddings = model.get_input_embeddings()
    device = next(model.parameters()).device
    hook = embeddings.register_forward_hook(lambda m, i, output: output.requires_grad_(True))
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        logits = model(**{name: x.to(device) for name, x in task.inputs(part).items()}).logits
        task.objective.losses(logits, task.objective.targets(part).to(device)).sum().backward()
    hook.remove()
    model.config.use_cache = cache
    for p, flag in zip(model.parameters(), flags, strict=True):
        p.requires_grad_(flag)


def compare(sides: dict[str, Callable[[], Any]], rounds: int, device: str) -> dict[str, float]:
    """Run the sides in turn; return each one's median in seconds."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            wait(device)
            start = time.perf_counter()
            side()
            wait(device)
            if number:  # the first round warms up
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def shared(side: Callable[[], Any], rounds: int) -> None:
    """Run one side in all processes at once; the first one prints the median in seconds, from start to last end."""
    from accelerate import PartialState

    processes, taken = PartialState(cpu=True), []
    for _ in range(rounds + 1):
        processes.wait_for_everyone()
        start = time.perf_counter()
        side()
        processes.wait_for_everyone()
        taken.append(time.perf_counter() - start)
    if processes.is_main_process:
        print(statistics.median(taken[1:]))


def in_processes(args: argparse.Namespace) -> float:
    """Score in several processes of one thread; return seconds."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(args.threads)]
    command = [*options(args, threads=1), "--rounds", str(args.rounds), "--only", "shared"]
    done = subprocess.run([*launch, *command], stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[-1])


def options(args: argparse.Namespace, threads: int) -> list[str]:
    """Give this script with the same model and rows, to run it again."""
    return [__file__, "--model", str(args.model), "--task", args.task, "--rows", str(args.rows),
            "--tokens", str(args.tokens), "--batch", str(args.batch), "--threads", str(threads)]  # fmt: skip


def wait(device: str) -> None:
    """Let a GPU finish."""
    if device != "cpu":
        torch.cuda.synchronize()


def num_products(model: Any, rows: Sequence[Any]) -> float:
    """Count the floating point operations of all per-example weight gradients."""
    sizes, hooks = [], []
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            hooks.append(module.register_forward_hook(
                lambda m, x, y: sizes.append(2.0 * x[0][..., 0].numel() * m.weight.numel())))  # fmt: skip
    with torch.no_grad():
        model(input_ids=torch.tensor([rows[0].input_ids], device=next(model.parameters()).device))
    for hook in hooks:
        hook.remove()
    return sum(sizes) * len(rows)


def matrix_rate(device: str, size: int = 2048) -> float:
    """Measure the rate of a large matrix product in operations a second."""
    one = torch.randn(size, size, device=device)
    return 2 * size**3 / compare({"product": lambda: one @ one}, 5, device)["product"]


def reset_peak() -> int:
    """Forget the peak of this process's memory; return what it holds now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    """Return the peak of this process's resident memory, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def memory(args: argparse.Namespace, weights: int) -> None:
    """Print peak memory over the loaded model, each in a process of its own."""
    command = [sys.executable, *options(args, args.threads)]
    for only, label in (("loop", "loop at batch 1"), ("scored", "knowtune")):
        done = subprocess.run([*command, "--only", only], stdout=subprocess.PIPE, text=True, check=True)
        extra = int(done.stdout)
        print(f"peak memory, {label}: weights + {extra / 2**20:.0f} MiB = {1 + extra / weights:.2f} x the weights")


if __name__ == "__main__":
    main()
