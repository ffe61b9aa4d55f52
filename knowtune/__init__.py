"""knowtune: fine-tune language models on knowledge, choose what to learn from, and keep what was known.

Importing it makes PEFT know the types of adapters that `knowtune.methods` adds, whichever of the two is imported
first, and imports neither PEFT nor torch.
"""

from pkgutil import resolve_name
from typing import Any

from knowtune.methods.peft_types import after_import, register
from knowtune.methods.tuners import TUNERS

after_import("peft", register)


def __getattr__(name: str) -> Any:
    """Give a tuner's config, such as `FishConfig`, which needs PEFT, or the installed version, when it is asked for."""
    for config, _ in TUNERS.values():
        if config.endswith(f":{name}"):
            return resolve_name(config)
    if name == "__version__":
        from importlib.metadata import version

        return version("knowtune")
    raise AttributeError(f"module 'knowtune' has no attribute {name!r}")
