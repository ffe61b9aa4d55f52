"""What KaSA costs beside PEFT's own variant of it and beside LoRA, in time, memory and exactness: attach, load, step.

Limits: attaching is at least 3 times as fast as PEFT's to a square and to a tall weight, 5 times to a wide one, and the
truncated weight lies within 1e-6 of its norm of a float64 decomposition's. Loading decomposes nothing. A step, forward,
backward and AdamW with the penalties, takes at most 1.10 times PEFT's and 1.25 times LoRA's, and at most LoRA's memory
and that of the factors. All hold but the last: its memory is 1 % above (docs/decisions/0043).

Attaching and loading are measured by one process for each arm, in turn, steps by turns in one process with the median
of ratios; their memory by one process for each arm, as the highest resident size during the work less that before it.
The CPU's seconds say something on a busy machine, too.
The default shapes are Llama-8B's, with random weights: of a wide or tall one the smallest singular values lie close
together, of a square one they reach down to 0. `--model` measures a whole model, its linear layers all adapted.

    python benchmarks/kasa.py [--shapes 4096x4096,14336x4096,1024x4096] [--rank 16] [--threads 2] [--no-error]
    python benchmarks/kasa.py --shapes '' --model ../shared/data/models/stories3m-facts
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.measuring import peak_memory, ratio, take_turns
from benchmarks.sparse_training import batch
from benchmarks.sparse_training import load as load_model

ARMS = ("lora", "peft", "ours")
SHAPE = re.compile(r"(\d+)x(\d+)")
AT_LEAST = {"wide": 5, "tall": 3, "square": 3}


def main() -> None:
    """Compare on each shape and on the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="4096x4096,14336x4096,1024x4096", help="out x in, by commas")
    parser.add_argument("--model", help="folder in transformers layout, or minilm")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=512, help="inputs of a shape's step")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-error", action="store_true", help="leave out the float64 decomposition, which is slow")
    parser.add_argument("--child", nargs=4, metavar=("WORK", "SOURCE", "ARM", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    if args.child:
        work, source, arm, folder = args.child
        print(json.dumps(CHILDREN[work](args, source, arm, Path(folder))))
        return
    for source in [*filter(None, args.shapes.split(",")), *filter(None, [args.model])]:
        compare(args, source)


def compare(args: argparse.Namespace, source: str) -> None:
    """Measure all arms on a shape or a model, and print both sides."""
    with tempfile.TemporaryDirectory() as folder:
        print(f"{source}, rank {args.rank}, {args.threads} threads", flush=True)
        if not args.no_error:
            child(args, "reference", source, "", folder)
        for work in ("attach", "load"):
            found = {arm: child(args, work, source, arm, folder) for arm in ARMS}
            for arm, figures in found.items():
                beside, by_cpu = (found["peft"][kind] / figures[kind] for kind in ("seconds", "cpu"))
                limit = f" (at least {AT_LEAST[kind_of(source)]})" if work == "attach" and SHAPE.match(source) else ""
                print(
                    f"  {work:6} {arm:4} {figures['seconds']:8.3f} s ({figures['cpu']:.3f} of CPU)"
                    f"  {figures['bytes'] / 1e6:7.0f} MB"
                    + (f"  {beside:.2f} times as fast as PEFT{limit}, {by_cpu:.2f} by CPU" if arm == "ours" else "")
                    + (f"  error {figures['error']:.1e}" if "error" in figures else ""),
                    flush=True,
                )
        steps = {arm: make_step(args, source, arm, Path(folder)) for arm in ARMS}
        seconds = take_turns(steps, args.rounds)
        for arm in ARMS:
            figures = child(args, "step", source, arm, folder)
            beside = f"  {ratio(seconds, arm, 'lora'):.3f} LoRA" + (" (at most 1.25)" if arm == "ours" else "")
            if arm == "ours":
                beside += f"  {ratio(seconds, 'ours', 'peft'):.3f} PEFT (at most 1.10)"
            print(f"  step   {arm:4} {statistics.median(seconds[arm]) * 1e3:8.1f} ms {figures['bytes'] / 1e6:7.1f} MB, "
                  f"factors {figures['factors'] / 1e6:.1f} MB{beside}", flush=True)  # fmt: skip


def kind_of(source: str) -> str:
    """Say whether a shape is wide, tall or square."""
    rows, columns = map(int, source.split("x"))
    return "square" if rows == columns else "tall" if rows > columns else "wide"


def child(args: argparse.Namespace, work: str, source: str, arm: str, folder: str) -> dict[str, float]:
    """Measure in a process of its own, whose freed blocks go back to the system."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    options = ["--rank", str(args.rank), "--tokens", str(args.tokens), "--threads", str(args.threads)]
    command = [sys.executable, __file__, *options, "--child", work, source, arm, folder]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


class Layer(torch.nn.Module):
    """One linear layer with random weights."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(columns, rows, bias=False)
        self.layer.weight.data.normal_(std=0.02)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply it  # (tokens, out)."""
        return self.layer(x)


def open_source(source: str) -> Any:
    """Make the layer of a shape, or load a model."""
    shape = SHAPE.fullmatch(source)
    return Layer(int(shape[1]), int(shape[2])) if shape else load_model(source)


@contextmanager
def side(arm: str) -> Iterator[None]:
    """Have PEFT's own variant for its arm."""
    from knowtune.methods.kasa.tuner.install import as_in_peft

    with as_in_peft() if arm == "peft" else nullcontext():
        yield


def attach(model: Any, arm: str, rank: int) -> Any:
    """Attach LoRA, or KaSA."""
    from peft import KasaConfig, LoraConfig, get_peft_model

    task = None if isinstance(model, Layer) else "SEQ_CLS" if "Class" in type(model).__name__ else "CAUSAL_LM"
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules=["layer"] if isinstance(model, Layer) else "all-linear",
        kasa_config=None if arm == "lora" else KasaConfig(),
        task_type=task,
    )
    return get_peft_model(model, config)


def measured(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Time some work and weigh it."""
    import peft
    from transformers import PreTrainedModel

    import knowtune

    assert peft and knowtune and PreTrainedModel  # loaded by now
    with peak_memory() as peak:
        started, started_cpu = time.perf_counter(), time.process_time()
        result = work()
        seconds, cpu = time.perf_counter() - started, time.process_time() - started_cpu
        return result, {"seconds": seconds, "cpu": cpu, "bytes": peak()}


def measure_attach(args: argparse.Namespace, source: str, arm: str, folder: Path) -> dict[str, float]:
    """Attach to a fresh base, save the adapter, and compare what stays with the reference."""
    model = open_source(source)
    with side(arm):
        attached, figures = measured(lambda: attach(model, arm, args.rank))
        attached.save_pretrained(folder / arm)
    if arm != "lora" and (folder / "reference").exists():
        errors = []
        for number, layer in enumerate(adapted(attached)):
            world = layer.get_base_layer().weight.detach().double()
            if arm == "ours":
                world -= layer.kasa_P["default"].double() @ layer.kasa_Q["default"].double()
            exact = torch.load(folder / "reference" / f"{number}.pt")
            errors.append(float((world - exact).norm() / exact.norm()))
        figures["error"] = max(errors)
    return figures


def measure_load(args: argparse.Namespace, source: str, arm: str, folder: Path) -> dict[str, float]:
    """Load the saved adapter onto a fresh base."""
    from peft import PeftModel

    model = open_source(source)
    with side(arm):
        return measured(lambda: PeftModel.from_pretrained(model, folder / arm))[1]


def write_reference(args: argparse.Namespace, source: str, arm: str, folder: Path) -> dict[str, float]:
    """Truncate every weight by a whole decomposition in float64."""
    (folder / "reference").mkdir()
    for number, layer in enumerate(adapted(attach(open_source(source), "lora", args.rank))):
        left, values, right = torch.linalg.svd(layer.get_base_layer().weight.detach().double(), full_matrices=False)
        values[-args.rank :] = 0
        torch.save((left * values) @ right, folder / "reference" / f"{number}.pt")
    return {}


def adapted(model: Any) -> list[Any]:
    """List the layers with an adapter."""
    return [module for module in model.modules() if hasattr(module, "lora_A")]


def measure_step(args: argparse.Namespace, source: str, arm: str, folder: Path) -> dict[str, float]:
    """Weigh three steps; of what is there before them, the adapter and its factors are counted in."""
    step = make_step(args, source, arm, folder)
    model: Any = step.model  # type: ignore[attr-defined]
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()  # out of the file that it was loaded from
    own = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    factors = sum(b.numel() * b.element_size() for name, b in model.named_buffers() if "kasa_" in name)
    with peak_memory() as peak:
        for _ in range(3):
            step()
        return {"bytes": peak() + own + factors, "factors": factors}


def make_step(args: argparse.Namespace, source: str, arm: str, folder: Path) -> Callable[[], None]:
    """Return one training step of an arm, with its penalties."""
    from peft import PeftModel
    from peft.tuners.lora import variants

    from knowtune.methods.kasa.penalties import penalty

    model = open_source(source)
    with side(arm):
        if arm == "peft":  # what is in the weights makes no step slower or faster
            whole = variants.KasaLinearVariant._truncate_base_weight
            variants.KasaLinearVariant._truncate_base_weight = staticmethod(lambda *_: None)
            attached: Any = attach(model, arm, args.rank)
            variants.KasaLinearVariant._truncate_base_weight = staticmethod(whole)
        else:
            attached = PeftModel.from_pretrained(model, folder / arm, is_trainable=True).train()
    given = batch(model) if not isinstance(model, Layer) else None
    x = torch.randn(args.tokens, model.layer.in_features, requires_grad=True) if given is None else None
    trained = [p for p in attached.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)

    def step() -> None:
        lost = penalty(attached, 1e-4, 1e-3) if arm == "ours" else None  # as the trainer does, before the forward pass
        loss = attached(x).square().mean() if given is None else attached(**given).loss
        if arm == "peft":
            loss = loss + attached.base_model._get_kasa_loss()
        elif lost is not None:
            loss = loss + lost
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step.model = attached  # type: ignore[attr-defined]
    return step


CHILDREN: dict[str, Callable[[argparse.Namespace, str, str, Path], dict[str, float]]] = {
    "reference": write_reference,
    "attach": measure_attach,
    "load": measure_load,
    "step": measure_step,
}

if __name__ == "__main__":
    main()
