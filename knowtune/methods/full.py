"""Full fine-tuning: every parameter moves. The checkpoint is the model itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from knowtune.methods.base import Method

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class Full(Method):
    """Train all parameters."""

    is_adapter: ClassVar[bool] = False

    def attach(self, model: PreTrainedModel) -> torch.nn.Module:
        """Let every parameter require gradients."""
        return model.requires_grad_(True)

    def save(self, model: torch.nn.Module, folder: Path) -> None:
        """Save the whole checkpoint."""
        from knowtune.models.load import as_pretrained

        as_pretrained(model).save_pretrained(folder)

    def load(self, model: PreTrainedModel, folder: Path) -> torch.nn.Module:
        """Overwrite the base's weights with the checkpoint's."""
        from knowtune.models.load import overwrite

        overwrite(model, folder)
        return model

    def fold(self, model: torch.nn.Module) -> PreTrainedModel:
        """Return the model: there is nothing to fold."""
        from knowtune.models.load import as_pretrained

        return as_pretrained(model)
