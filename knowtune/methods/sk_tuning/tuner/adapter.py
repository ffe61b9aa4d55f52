"""What of an SK_TUNING adapter is trained."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, groupby
from typing import Any

import torch
from torch import nn

from knowtune.common.errors import UserError
from knowtune.methods.sk_tuning.tuner.config import SkTuningConfig

SAMPLES = 32  # numbers of a text's embeddings by which its base is known again
SPREAD = 0.02  # standard deviation of projections that do not begin at zero

# Keys and values of a layer, each  # (1, heads, tokens of the text, head width); None of a layer that has none.
State = tuple[torch.Tensor, torch.Tensor] | None
# Heads and head width of a layer's keys, and of its values; None of a layer that has none.
Shape = tuple[tuple[int, int], tuple[int, int]] | None


def shapes_of(states: Sequence[State]) -> list[Shape]:
    """Return heads and head width of each layer's keys, and of its values, which some models have narrower."""
    return [
        state and ((state[0].shape[1], state[0].shape[3]), (state[1].shape[1], state[1].shape[3])) for state in states
    ]


def widths_of(words: torch.Tensor, shapes: Sequence[Shape]) -> dict[str, Any]:
    """Say which widths of a base an adapter fits, in values that JSON keeps.

    Args:
        words: the text's embeddings  # (text, hidden).
        shapes: of each layer's keys and values; none for a prompt.

    Returns:
        `hidden_size`; for a prefix also `states`: of each run of like layers their number, then heads and head width
        of keys, and of values.
    """
    runs = [[len(list(same)), *chain(*(shape or ()))] for shape, same in groupby(shapes)]
    return {"hidden_size": words.shape[1], **({"states": runs} if runs else {})}


def sample_of(words: torch.Tensor) -> list[float]:
    """Take numbers by which a base is known again, from all of a text  # (text, hidden)."""
    flat = words.detach().flatten()
    chosen = flat[:: max(1, len(flat) // SAMPLES)][:SAMPLES]
    return [float(f"{number:.4g}") for number in chosen.tolist()]


class Projection(nn.Module):
    """x + W x, or x + U (D x) with a rank; zero at the start, so that it begins at x.

    Args:
        width: of x.
        rank: of the change; None: a square matrix.
        init_weights: begin at zero, else at small random values.
    """

    def __init__(self, width: int, rank: int | None, init_weights: bool) -> None:
        super().__init__()
        self.down = nn.Identity() if rank is None else nn.Linear(width, rank, bias=False)
        self.up = nn.Linear(width if rank is None else rank, width, bias=False)
        if init_weights:
            nn.init.zeros_(self.up.weight)
        else:
            nn.init.normal_(self.up.weight, std=SPREAD)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Project, in the type of the weights  # (..., width)."""
        wide = x.to(self.up.weight.dtype)
        changed: torch.Tensor = (wide + self.up(self.down(wide))).to(x.dtype)
        return changed


class SkAdapter(nn.Module):
    """The trained part of one adapter.

    Args:
        config: its options.
        words: the text's embeddings  # (text, hidden).
        shapes: of each layer's keys and values, which may differ; for prefixes.

    Raises:
        UserError: an option needs one width, and layers have several.
    """

    def __init__(self, config: SkTuningConfig, words: torch.Tensor, shapes: Sequence[Shape] = ()) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        if config.form == "released":
            self.embeddings = nn.Parameter(words.detach().clone())
            if config.transform:
                heads = {width for shape in shapes if shape for _, width in shape}
                width = one_of(heads, "transform", "keys and values") if shapes else words.shape[1]
                self.transform = nn.Linear(width, width, bias=False)
                if config.init_weights:
                    nn.init.eye_(self.transform.weight)
        elif config.variant == "prompt":
            self.embedding = Projection(words.shape[1], config.rank, config.init_weights)
        else:
            self.keys, self.values = (
                self._projections(config, [shape[part][0] * shape[part][1] if shape else 0 for shape in shapes], what)
                for part, what in enumerate(("keys", "values"))
            )

    @staticmethod
    def _projections(config: SkTuningConfig, widths: list[int], what: str) -> nn.ModuleList:
        """Make one of each layer, or one of all; a layer without keys and values has the width 0."""
        if config.shared:
            widths = [one_of({width for width in widths if width}, "shared", what)]
        return nn.ModuleList(
            Projection(width, config.rank, config.init_weights) if width else nn.Identity() for width in widths
        )

    def soft_words(self, words: torch.Tensor) -> torch.Tensor:
        """Give what the text's embeddings have become, before a transform  # (text, hidden).

        Args:
            words: the frozen embeddings  # (text, hidden).
        """
        if hasattr(self, "embeddings"):
            given: torch.Tensor = self.dropout(self.embeddings).to(words.dtype)
            return given
        return words

    def prompt(self, words: torch.Tensor) -> torch.Tensor:
        """Give the prompt: F(E)  # (text, hidden)."""
        soft = self.soft_words(words)
        if hasattr(self, "embedding"):
            soft = self.dropout(self.embedding(soft))
        elif hasattr(self, "transform"):
            soft = self.dropout(self._transformed(soft))
        return soft

    def prefix(self, states: Sequence[State]) -> list[State]:
        """Give keys and values of the prefix: F_l(K_l), G_l(V_l)."""
        return [state and self._layer(number, *state) for number, state in enumerate(states)]

    def _layer(self, number: int, keys: torch.Tensor, values: torch.Tensor) -> State:
        if hasattr(self, "keys"):
            own = number if len(self.keys) > 1 else 0  # a shared pair is the first
            return self._projected(self.keys[own], keys), self._projected(self.values[own], values)
        if hasattr(self, "transform"):
            return self.dropout(self._transformed(keys)), self.dropout(self._transformed(values))
        return keys, values

    def _projected(self, projection: nn.Module, states: torch.Tensor) -> torch.Tensor:
        """Project all heads of a token together  # (1, heads, text, head width)."""
        _, heads, _, width = states.shape
        flat = projection(states.transpose(1, 2).flatten(2))  # (1, text, heads x head width)
        dropped: torch.Tensor = self.dropout(flat).unflatten(2, (heads, width)).transpose(1, 2)
        return dropped

    def _transformed(self, states: torch.Tensor) -> torch.Tensor:
        changed: torch.Tensor = self.transform(states.to(self.transform.weight.dtype)).to(states.dtype)
        return changed


def one_of(widths: set[int], option: str, what: str) -> int:
    """Return the one width of all layers.

    Args:
        widths: that there are.
        option: which needs one.
        what: has them.

    Raises:
        UserError: there are several.
    """
    if len(widths) != 1:
        raise UserError(
            f"SkTuningConfig: {option} needs {what} of one width in all layers; this model's have {sorted(widths)}; "
            f"leave {option} out"
        )
    return widths.pop()
