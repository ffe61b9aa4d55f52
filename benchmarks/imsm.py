"""What interweaving two memories costs beside its inner method alone, and what it saves beside two whole models.

Limits: 256 new tokens after a prompt of 512 at least 10 times as fast as by two models without a cache, which is what
the authors' code does; a token at batch 1 at most 1.3 times plain cached decoding with the LoRA attached, on a GPU and
for a Llama of at least 1B parameters in bfloat16 (on a CPU, for smaller ones, 1.9); a training step, forward, backward
and AdamW, at most 1.6 times the inner method's; memory, weights included, at most 1.15 times the inner method's.

The arms: `inner`, LoRA by PEFT alone; `imsm`, the same LoRA and a gate; `copies`, the base, and a copy of it with the
LoRA, both computed on the whole text for each token, the head on the last one alone. Of `copies` some steps are timed,
at even distances, and their mean stands for all. A token's time is that of a whole generation less that of its first
token, over the tokens after it. Arms take turns in one process; on a CPU memory is taken by one process for each arm.

    python benchmarks/imsm.py                   # a small Llama on the CPU, random weights
    python benchmarks/imsm.py --device cuda     # the shape of Llama 3.2 1B in bfloat16
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.measuring import number_of_child, peak_memory

SHAPES: dict[str, dict[str, int]] = {  # by device
    "cpu": {"hidden": 768, "layers": 8, "heads": 12, "kv_heads": 4, "width": 2048, "vocabulary": 8192},
    "cuda": {"hidden": 2048, "layers": 16, "heads": 32, "kv_heads": 8, "width": 8192, "vocabulary": 128256},
}
ARMS = ("inner", "imsm", "copies")
LIMITS = {"copies": 10.0, "token": {"cpu": 1.9, "cuda": 1.3}, "step": 1.6, "memory": 1.15}


def main() -> None:
    """Measure all, print a line for each."""
    args = read_arguments()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    if args.weigh:
        print("bytes", weigh_here(args, *args.weigh))
        return
    num = sum(parameter.numel() for parameter in make_base(args, "meta").parameters())
    where = torch.cuda.get_device_name() if args.device == "cuda" else f"CPU, {args.threads} threads"
    print(f"Llama of {num / 1e9:.3f}B parameters, {args.dtype}, {where}; LoRA of rank {args.rank}", flush=True)
    for targets in args.targets:
        print(f"LoRA on {targets}", flush=True)
        models = {arm: make(args, arm, targets) for arm in ("inner", "imsm")}
        for batch in args.batches:
            decode(args, models, batch, with_copies=batch == 1)
        if targets == args.targets[-1]:
            compare_steps(args, models)
    del models
    for work in ("step", "generation"):
        took = {arm: weigh(args, arm, work) for arm in ARMS}
        ratios = {arm: took["imsm"] / took[arm] for arm in ("inner", "copies")}
        print(
            f"  memory of a {work}: imsm {took['imsm'] / 1e6:.0f} MB = {ratios['inner']:.3f} inner "
            f"(at most {LIMITS['memory']}) = {ratios['copies']:.3f} two copies",
            flush=True,
        )


def read_arguments() -> argparse.Namespace:
    """Read the command line; sizes that are left out are the device's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="bfloat16 on a GPU, else float32")
    for name, size in SHAPES["cpu"].items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help=f"{size}; on a GPU {SHAPES['cuda'][name]}")
    parser.add_argument("--targets", nargs="+", default=["q_proj,v_proj", "all-linear"], help="of the LoRA, in turn")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--new", type=int, default=256)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8], help="rows of a generation")
    parser.add_argument("--samples", type=int, default=8, help="steps of `copies` that are timed")
    parser.add_argument("--length", type=int, default=128, help="tokens of a training row")
    parser.add_argument("--rows", type=int, default=8, help="of a training step")
    parser.add_argument("--rounds", type=int, default=2, help="of each generation; five times as many steps")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--weigh", nargs=2, metavar=("ARM", "WORK"), help=argparse.SUPPRESS)  # what a child measures
    args = parser.parse_args()
    for name, size in SHAPES[args.device].items():
        if getattr(args, name) is None:
            setattr(args, name, size)
    args.dtype = args.dtype or ("bfloat16" if args.device == "cuda" else "float32")
    return args


def make_base(args: argparse.Namespace, device: str) -> Any:
    """Make a Llama with random weights, made where they are needed."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=args.hidden, num_hidden_layers=args.layers, num_attention_heads=args.heads,
        num_key_value_heads=args.kv_heads, intermediate_size=args.width, vocab_size=args.vocabulary,
        max_position_embeddings=args.prompt + args.new + 8, tie_word_embeddings=True, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, args.dtype))
    try:
        with torch.device(device):
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(torch.float32)
    model.generation_config.eos_token_id = None  # so that nothing ends early
    return model.eval()


def make(args: argparse.Namespace, arm: str, targets: str) -> Any:
    """Make a model with an arm's adapter, as far from its start as a trained one."""
    from peft import LoraConfig, get_peft_model

    from knowtune import ImsmConfig

    chosen = targets if targets == "all-linear" else targets.split(",")
    config: Any = LoraConfig(r=args.rank, lora_alpha=args.rank, target_modules=chosen, task_type="CAUSAL_LM")
    if arm == "imsm":
        config = ImsmConfig(inner=config, task_type="CAUSAL_LM")
    model = get_peft_model(make_base(args, args.device), config).to(args.device).eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.01 * torch.randn_like(parameter)
    return model


@contextmanager
def stopwatch(args: argparse.Namespace) -> Iterator[list[float]]:
    """Time what is done inside, on a GPU until it has really been done; the list holds the seconds afterwards."""
    seconds: list[float] = []
    wait(args)
    started = time.perf_counter()
    yield seconds
    wait(args)
    seconds.append(time.perf_counter() - started)


def wait(args: argparse.Namespace) -> None:
    """Wait for the GPU."""
    if args.device == "cuda":
        torch.cuda.synchronize()


def tokens(args: argparse.Namespace, rows: int, length: int) -> torch.Tensor:
    """Draw tokens  # (rows, length)."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(1, args.vocabulary, (rows, length), generator=generator).to(args.device)


def generate(model: Any, ids: torch.Tensor, num: int) -> None:
    """Answer greedily with the cache."""
    model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=num, do_sample=False)


@torch.inference_mode()
def decode(args: argparse.Namespace, models: dict[str, Any], batch: int, *, with_copies: bool) -> None:
    """Compare generations."""
    ids = tokens(args, batch, args.prompt)
    whole: dict[str, list[float]] = {arm: [] for arm in models}
    token: dict[str, list[float]] = {arm: [] for arm in models}
    for model in models.values():
        generate(model, ids, 4)  # untimed
    for _ in range(args.rounds):
        for arm, model in models.items():
            with stopwatch(args) as first:
                generate(model, ids, 1)
            with stopwatch(args) as seconds:
                generate(model, ids, args.new)
            whole[arm] += seconds
            token[arm].append((seconds[0] - first[0]) / (args.new - 1))
    limit = f" (at most {LIMITS['token'][args.device]})" if batch == 1 else ""  # type: ignore[index]
    took = {arm: statistics.median(token[arm]) for arm in models}
    print(
        f"  a token, batch {batch}, after {args.prompt}: inner {took['inner'] * 1e3:.2f} ms, imsm "
        f"{took['imsm'] * 1e3:.2f} ms = {_ratio(token):.3f}{limit}; with the prompt {_ratio(whole):.3f}",
        flush=True,
    )
    if with_copies:
        mean = statistics.mean(time_copies(args, models, ids))
        ours = statistics.median(whole["imsm"])
        print(
            f"  {args.new} tokens: imsm {ours:.2f} s, copies without cache {mean * args.new:.2f} s, "
            f"{mean * args.new / ours:.1f} times (at least {LIMITS['copies']:.0f})",
            flush=True,
        )


def _ratio(seconds: dict[str, list[float]]) -> float:
    return statistics.median(mine / its for mine, its in zip(seconds["imsm"], seconds["inner"], strict=True))


def time_copies(args: argparse.Namespace, models: dict[str, Any], ids: torch.Tensor) -> list[float]:
    """Time steps of two whole models on the whole text so far, at even distances."""
    base, tuned = make_base(args, args.device), models["inner"]
    gate = models["imsm"].base_model.layer.imsm_gate["default"]
    length, taken = ids.shape[1], []
    lengths = [length + round((args.new - 1) * i / max(args.samples - 1, 1)) for i in range(args.samples)]
    for number, text in enumerate([lengths[0], *lengths]):
        row = tokens(args, len(ids), text)
        with stopwatch(args) as seconds:
            copies_step(base, tuned, gate, row, length)
        if number:  # the first one is not timed
            taken += seconds
    return taken


def copies_step(base: Any, tuned: Any, gate: Any, ids: torch.Tensor, prompt: int) -> torch.Tensor:
    """Choose the next token as the authors' code does  # (batch,)."""
    plain, changed = (model.get_decoder()(ids, use_cache=False)[0].float() for model in (base, tuned))
    query = gate.query_part(plain[:, :prompt].mean(1), changed[:, :prompt].mean(1))
    last, own = plain[:, -1], changed[:, -1]
    gates = gate(last, own, query)
    mixed = gates * last + (1 - gates) * own
    return base.lm_head(mixed.to(base.dtype)).argmax(-1)  # type: ignore[no-any-return]


def make_step(args: argparse.Namespace, model: Any) -> Callable[[], None]:
    """Make a training step, the first half of each row its prompt."""
    ids = tokens(args, args.rows, args.length)
    labels = ids.clone()
    labels[:, : args.length // 2] = -100
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    model.train()

    def step() -> None:
        model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def compare_steps(args: argparse.Namespace, models: dict[str, Any]) -> None:
    """Compare training steps."""
    steps = {arm: make_step(args, model) for arm, model in models.items()}
    took: dict[str, list[float]] = {arm: [] for arm in steps}
    for number in range(5 * args.rounds + 2):
        for arm, step in steps.items():
            with stopwatch(args) as seconds:
                step()
            if number > 1:
                took[arm] += seconds
    mean = {arm: statistics.median(seconds) for arm, seconds in took.items()}
    print(
        f"  a step, {args.rows} x {args.length}: inner {mean['inner'] * 1e3:.1f} ms, imsm {mean['imsm'] * 1e3:.1f} ms "
        f"= {_ratio(took):.3f} (at most {LIMITS['step']})",
        flush=True,
    )


def weigh(args: argparse.Namespace, arm: str, work: str) -> int:
    """Measure the memory of an arm's work, on a CPU in a process of its own."""
    if args.device == "cuda":
        return weigh_here(args, arm, work)
    options = [
        part
        for name, value in vars(args).items()
        if name != "weigh"
        for part in (f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value]))
    ]
    return number_of_child([__file__, *options, "--weigh", arm, work])


def weigh_here(args: argparse.Namespace, arm: str, work: str) -> int:
    """Return the bytes that an arm's work takes at most, weights included; of copies that of the tuned one's work."""
    if args.device == "cuda":
        gc.collect()  # models of before: their hooks hold on to them
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    model = make(args, "inner" if arm == "copies" else arm, args.targets[-1])
    other = make_base(args, args.device) if arm == "copies" else None
    weights = sum(p.numel() * p.element_size() for one in (model, other) if one is not None for p in one.parameters())
    act = make_step(args, model) if work == "step" else make_generation(args, model)
    if args.device == "cuda":
        for _ in range(2):
            act()
        return int(torch.cuda.max_memory_allocated() - before)
    with peak_memory() as peak:
        for _ in range(2):
            act()
        return int(weights + peak())


def make_generation(args: argparse.Namespace, model: Any) -> Callable[[], None]:
    """Make a short generation."""
    ids = tokens(args, 1, args.prompt)

    def act() -> None:
        with torch.inference_mode():
            generate(model, ids, 8)

    return act


if __name__ == "__main__":
    main()
