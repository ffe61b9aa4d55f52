"""The one place where a kind of adapter becomes a type of PEFT.

PEFT takes a type only if its name is a member of an enum, which has no public way in, so the member is added at run
time. Importing knowtune must stay cheap: it neither imports torch nor PEFT. So the types are registered as soon as PEFT
itself has been imported, before or after knowtune.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from pkgutil import resolve_name
from types import ModuleType

from knowtune.methods.peft_enum import add_member
from knowtune.methods.tuners import REPLACED, TUNERS


def register() -> None:
    """Make every tuner a type of PEFT, and replace what is replaced; once is enough, more does no harm."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.utils.peft_types import PeftType, register_peft_method

    for name, (config, model) in TUNERS.items():
        if add_member(PeftType, name) not in PEFT_TYPE_TO_CONFIG_MAPPING:
            tuner = resolve_name(model)
            register_peft_method(
                name=name.lower(), config_cls=resolve_name(config), model_cls=tuner, prefix=tuner.prefix
            )
    for replace in REPLACED.values():
        resolve_name(replace)()


def after_import(name: str, then: Callable[[], None]) -> None:
    """Call `then` once the module is imported: now if it is, else right after it ran."""
    module = sys.modules.get(name)
    if module is not None and not getattr(getattr(module, "__spec__", None), "_initializing", False):
        then()
    else:
        sys.meta_path.insert(0, _Watch(name, then))


class _Watch(importlib.abc.MetaPathFinder):
    """Finds a module as the other finders do, and adds a call to its loading."""

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        self.name, self.then = name, then

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the others' spec of the one module; None for all others."""
        if fullname != self.name:
            return None
        others = (finder for finder in list(sys.meta_path) if finder is not self and hasattr(finder, "find_spec"))
        spec = next((spec for finder in others if (spec := finder.find_spec(fullname, path, target))), None)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = self.watch(spec.loader.exec_module)  # type: ignore[method-assign,assignment]
        return spec

    def watch(self, load: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
        """Wrap a loader's work. Finders also look for a spec without loading it, so the watch ends only here."""

        def exec_module(module: ModuleType) -> None:
            load(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                self.then()

        return exec_module
