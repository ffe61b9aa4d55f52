"""What a training step of SK-Tuning costs beside PEFT's prefix tuning, and what reading the text once saves.

Limit: at most 1.10 times the step of PEFT's prefix tuning with as many virtual tokens. Given too: `form: released`,
which reads the text at every step, once for a batch; `rereading`, which is `form: paper` made to do so; and `rereading
rows`, `form: released` made to read the text for every row, as the authors' code does: P more tokens beside S, forward
and backward. A step is forward, backward and AdamW. All arms take turns in one process; memory is taken by one process
per arm, as the highest resident size during the steps less that of the plain model.

    python benchmarks/sk_tuning.py [--model FOLDER] [--text 16] [--length 32] [--batch 16] [--threads 1]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.measuring import number_of_child, peak_memory, ratio, take_turns

ARMS: dict[str, dict[str, Any]] = {  # options of SkTuningConfig; None: no adapter of ours
    "frozen": {},
    "peft prefix": {},
    "paper": {},
    "paper shared": {"shared": True},
    "paper rank 8": {"rank": 8},
    "rereading": {},
    "rereading rows": {"form": "released"},
    "released": {"form": "released"},
    "released transform": {"form": "released", "transform": True},
    "peft prompt": {},
    "paper prompt": {"variant": "prompt"},
    "released prompt": {"variant": "prompt", "form": "released"},
}
LIMIT = 1.10


def main() -> None:
    """Time and weigh all arms, print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", help="folder in transformers layout; a small Llama if left out")
    parser.add_argument("--text", type=int, default=16, help="tokens of the text, P")
    parser.add_argument("--length", type=int, default=32, help="tokens of an input, S")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--hidden", type=int, default=512, help="of the small Llama")
    parser.add_argument("--layers", type=int, default=8, help="of the small Llama")
    parser.add_argument("--memory", help=argparse.SUPPRESS)  # what the child process measures
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    if args.memory:
        print("bytes", measure_memory(args, args.memory))
        return
    models = {arm: attach(args, arm) for arm in ARMS}
    times = take_turns({arm: make_step(args, model) for arm, model in models.items()}, args.rounds)
    took = {arm: statistics.median(seconds) for arm, seconds in times.items()}
    memory = {arm: weigh(args, arm) for arm in ARMS}
    print(f"P = {args.text}, S = {args.length}, batch {args.batch}: frozen {took['frozen'] * 1e3:.1f} ms, "
          f"{memory['frozen'] / 1e6:.0f} MB")  # fmt: skip
    for arm in list(ARMS)[1:]:
        beside = "peft prompt" if "prompt" in arm else "peft prefix"
        limit = f" (at most {LIMIT:.2f})" if arm.startswith("paper") and beside == "peft prefix" else ""
        print(
            f"  {arm:18} {took[arm] * 1e3:7.1f} ms = {ratio(times, arm, beside):.3f} {beside}{limit}; "
            f"{memory[arm] / 1e6:.0f} MB; trained {num_trained(models[arm]):,}, saved {num_saved(models[arm]):,} bytes"
        )
    for arm in ("rereading", "rereading rows"):
        saved = 1 - ratio(times, "paper", arm)
        print(f"  reading the text once for all steps saves {saved:.1%} of a step of {arm}")
    print(f"  P / (P + S) = {args.text / (args.text + args.length):.1%}")


def weigh(args: argparse.Namespace, arm: str) -> int:
    """Measure an arm's memory in a process of its own."""
    options = [f"--{name}={value}" for name, value in vars(args).items() if name != "memory" and value]
    return number_of_child([__file__, *options, "--memory", arm])


def measure_memory(args: argparse.Namespace, arm: str) -> int:
    """Return the bytes that three steps take at most, beyond the plain model, with what is trained."""
    model = attach(args, arm)
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()  # else it may still lie in the file
    step = make_step(args, model)
    with peak_memory() as peak:
        for _ in range(3):
            step()
        return peak() + sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)


def load(args: argparse.Namespace) -> Any:
    """Load the model."""
    from transformers import AutoModelForCausalLM, LlamaConfig, logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    torch.manual_seed(0)
    if args.model:
        return AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).train()
    sizes = {"hidden_size": args.hidden, "intermediate_size": args.hidden * 11 // 4, "num_hidden_layers": args.layers}
    config = LlamaConfig(
        vocab_size=4096, num_attention_heads=8, num_key_value_heads=4, tie_word_embeddings=True, **sizes
    )
    return AutoModelForCausalLM.from_config(config).train()


def attach(args: argparse.Namespace, arm: str) -> Any:
    """Load the model and attach an arm."""
    from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model

    from knowtune import SkTuningConfig

    model = load(args)
    if arm == "frozen":
        model.requires_grad_(False)
        model.get_input_embeddings().register_forward_hook(lambda _, __, states: states.requires_grad_())
        return model
    if arm.startswith("peft"):
        kind = PromptTuningConfig if arm.endswith("prompt") else PrefixTuningConfig
        return get_peft_model(model, kind(num_virtual_tokens=args.text, task_type="CAUSAL_LM"))
    ids = torch.randint(3, 4096, (args.text,), generator=torch.Generator().manual_seed(0)).tolist()
    attached = get_peft_model(model, SkTuningConfig(token_ids=ids, task_type="CAUSAL_LM", **ARMS[arm]))
    layer = attached.base_model.model.get_decoder().sk_tuning
    if arm == "rereading":
        attached.register_forward_pre_hook(lambda *_: layer.kept.clear())
    if arm == "rereading rows":
        once = layer._read
        layer._read = lambda inputs_embeds: once(inputs_embeds=inputs_embeds.expand(args.batch, -1, -1))
    return attached


def make_step(args: argparse.Namespace, model: Any) -> Callable[[], None]:
    """Make a training step on random tokens; inputs are padded on the right to unlike lengths."""
    ids = torch.randint(3, 4096, (args.batch, args.length), generator=torch.Generator().manual_seed(1))
    lengths = args.length - torch.arange(args.batch) % max(args.length // 4, 1)
    mask = (torch.arange(args.length) < lengths[:, None]).long()
    labels = ids.masked_fill(mask == 0, -100)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3) if trained else None

    def step() -> None:
        model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad()

    return step


def num_trained(model: Any) -> int:
    """Count the trained parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def num_saved(model: Any) -> int:
    """Count the bytes of the saved adapter."""
    with tempfile.TemporaryDirectory() as folder:
        model.create_or_update_model_card = lambda _: None
        model.save_pretrained(folder)
        return sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))


if __name__ == "__main__":
    main()
