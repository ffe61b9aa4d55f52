"""knowtune: fine-tune language models on knowledge, choose what to learn from, and keep what was known.

Importing it makes PEFT know the types of adapters that `knowtune.methods` adds, whichever of the two is imported
first, and imports neither PEFT nor torch.
"""

from typing import Any

from knowtune.methods.peft_types import after_import, register

__version__ = "0.1.0"

after_import("peft", register)


def __getattr__(name: str) -> Any:
    """Give `FishConfig`, which needs PEFT, when it is asked for."""
    if name == "FishConfig":
        from knowtune.methods.fish.config import FishConfig

        return FishConfig
    raise AttributeError(f"module 'knowtune' has no attribute {name!r}")
