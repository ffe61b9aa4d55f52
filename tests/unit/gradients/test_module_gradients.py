"""A module's per-example gradients against autograd, one example after the other."""

from __future__ import annotations

import torch

from knowtune.gradients.module_gradients import ModuleCall, per_example_gradients
from knowtune.gradients.parameter_gradients import DenseGradients


def test_norms_are_affine_and_what_is_not_is_differentiated() -> None:
    class Curved(torch.nn.Module):  # a vector as wide as its output, but no scale
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.weight.exp()

    torch.manual_seed(0)
    x, delta = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    for module, affine in ((torch.nn.LayerNorm(5), True), (torch.nn.RMSNorm(5), True), (Curved(), False)):
        for p in module.parameters():
            torch.nn.init.normal_(p)
        own = {key: key for key, _ in module.named_parameters()}
        known: dict[torch.nn.Module, bool] = {}
        uses = dict(per_example_gradients(ModuleCall(module, own, (x,), {}, delta, 3), known))
        assert known == {module: affine}
        for key, p in module.named_parameters():
            each = [torch.autograd.grad((module(x[i]) * delta[i]).sum(), p)[0] for i in range(3)]
            use = uses[key]
            assert isinstance(use, DenseGradients)
            assert torch.allclose(use.gradients, torch.stack(each), atol=1e-5)
