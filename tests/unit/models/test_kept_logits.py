"""Few logits are asked of whoever computes few, and what is made of them is the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from knowtune.checkpoints.base import Base
from knowtune.methods.imsm.method import Imsm
from knowtune.models.forward import forward
from knowtune.models.kept_logits import logits_option
from knowtune.tasks.knowledge import Knowledge
from knowtune.text.encoded import Encoded

ROWS = [Encoded([5, 6, 7, 8, 9], 3, 5), Encoded([6, 7, 8, 9], 3, 4), Encoded([9, 8, 7], 2, 3)]
TASK = Knowledge()
PEFT = {
    "lora": LoraConfig(r=2, task_type="CAUSAL_LM", target_modules=["q_proj"]),
    "prompt": PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"),
    "prefix": PrefixTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"),
}


def losses(model: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each row's loss, and the gradients of their sum; how many logits were made is looked at, too."""
    targets = TASK.objective.targets(ROWS)
    logits = model(**TASK.inputs(ROWS), **options).logits
    num = options.get("logits_to_keep")
    assert logits.shape[1] == num if num else logits.shape[1] >= targets.shape[1]
    each = TASK.objective.losses(logits, targets)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return each, torch.cat([gradient.flatten() for gradient in torch.autograd.grad(each.sum(), trained)])


def attached(base: Base, kind: str) -> Any:
    """Return a model of a kind, in evaluation mode."""
    if kind == "full":
        return base.model()
    if kind == "imsm":
        inner: Any = {"method": "lora", "options": {"rank": 2, "alpha": 4.0}}
        return Imsm(inner=inner).attach(base.model()).eval()
    return get_peft_model(base.model(), PEFT[kind]).eval()


@pytest.mark.parametrize("kind", ["full", "lora", "prompt", "prefix", "imsm"])
def test_losses_and_gradients_are_those_of_all_logits(kind: str, base: Base) -> None:
    model = attached(base, kind)
    num = TASK.objective.num_read(TASK.objective.targets(ROWS))
    option = logits_option(model, num)
    assert option == {"logits_to_keep": 4}
    for few, all_of_them in zip(losses(model, **option), losses(model), strict=True):
        torch.testing.assert_close(few, all_of_them)


def test_nothing_is_asked_where_all_are_read(base: Base) -> None:
    assert logits_option(base.model(), 0) == {}
    running = [Encoded.running([5, 6, 7])]
    assert TASK.objective.num_read(TASK.objective.targets(running)) == 0


def test_a_model_that_knows_no_such_argument_gives_all(base: Base) -> None:
    class Own(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = base.model()

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask)

    assert logits_option(Own(), 2) == {}
    ids, labels = [row.input_ids for row in ROWS], [row.labels for row in ROWS]
    with torch.inference_mode():
        own, few, all_of_them = forward(Own(), ids, labels), forward(base.model(), ids, labels), forward(Own(), ids)
    assert (own.shape[1], few.shape[1], all_of_them.shape[1]) == (4, 4, 5)
    assert torch.equal(own, all_of_them[:, -4:])
    torch.testing.assert_close(few, own)


@pytest.mark.parametrize(
    "family", ["gpt2", "gpt_neox", "opt", "qwen3", "gemma3_text", "phi", "mixtral", "bloom", "mamba"]
)
def test_families_of_transformers_know_it(family: str) -> None:
    sizes = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes))
    assert logits_option(model, 2) == {"logits_to_keep": 2}
