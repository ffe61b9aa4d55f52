"""The tuners that PEFT's suite is run over. A new one joins by one line in `TUNERS`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Tuner:
    """A PEFT type and how PEFT's tests shall configure it.

    Attributes:
        config: The config class, as `module:Class`.
        variants: Arguments of the config, one mapping per way to run the suite; each must fit a layer of 10 x 20.
        layers: The kinds of layer that the tuner can adapt, keys of `cases.LAYERS`.
        skips: Part of a test's id -> why this tuner cannot pass it. Shown at the end of each run.
    """

    config: str
    variants: tuple[Mapping[str, Any], ...] = ({},)
    layers: tuple[str, ...] = ("linear",)
    skips: Mapping[str, str] = field(default_factory=dict)

    @property
    def config_class(self) -> Any:
        """The config class; importing it registers the PEFT type."""
        module, _, name = self.config.partition(":")
        return getattr(import_module(module), name)


TUNERS: dict[str, Tuner] = {}

# PEFT's own, to tell a fault of the harness from one of a tuner: they pass upstream.
CONTROLS = {
    "shira": Tuner("peft:ShiraConfig", ({"r": 1},)),
    "lora": Tuner("peft:LoraConfig", ({"r": 8},), ("linear", "embedding", "conv1d", "conv2d")),
}
