"""Values put over those of a params file, by dotted names, as `dvc exp run -S` has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knowtune.common.errors import UserError, nearest


def override(raw: dict[str, Any], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Put values into params, in place.

    Args:
        raw: the params.
        values: dotted name to value, such as `runs.lora.options.rank: 32`. All but the last part must be there; what a
            section may hold is checked with the whole file.
        where: what the values come from, for errors.

    Raises:
        UserError: a name leads nowhere.
    """
    for name, value in values.items():
        *path, last = str(name).split(".")
        section: Any = raw
        for i, part in enumerate(path):
            above = ".".join(path[:i]) or "params.yaml"
            if not isinstance(section, dict) or part not in section:
                known = section if isinstance(section, dict) else {}
                hint = f"; did you mean {guess!r}?" if (guess := nearest(part, map(str, known))) else ""
                raise UserError(f"{where}: {name}: nothing is called {part!r} in {above}{hint}")
            section = section[part]
        if not isinstance(section, dict):
            raise UserError(f"{where}: {name}: {'.'.join(path)} is a value, and holds no {last!r}")
        section[last] = value
    return raw
