"""The digest of Python code by what it does, not by how it is written down."""

from __future__ import annotations

import ast
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from knowtune.common.files import parse_json, write_json

BY = sha256(Path(__file__).read_bytes()).hexdigest()  # this version; read before anybody edits it
MANY = 10_000  # digests; 1 MB


class KnownDigests:
    """Digests that earlier processes have taken, by the bytes of the code: to parse all of the project takes a second.

    They lie in the work folder. A file that is damaged, or that another version of this module has written, counts as
    none.
    """

    def __init__(self, path: Path) -> None:
        """Read what is known at a path."""
        self.path = path
        self._known: dict[str, str] = {}
        self._asked: dict[str, str] = {}
        with suppress(OSError, ValueError, TypeError, KeyError):
            content = parse_json(path)
            if content["by"] == BY:
                self._known = dict(content["digests"])

    def digest(self, source: bytes) -> str:
        """Digest what Python code does; see `digest_source`."""
        key = sha256(source).hexdigest()
        self._asked[key] = self._known.get(key) or digest_source(source)
        return self._asked[key]

    def keep(self) -> None:
        """Write what is new, where one may write; after thousands of edits only what is asked for."""
        if self._asked.keys() <= self._known.keys():
            return
        known = self._asked if len(self._known) > MANY else {**self._known, **self._asked}
        with suppress(OSError):
            write_json(self.path, {"by": BY, "digests": known})


@cache  # within a process, for edit after edit
def digest_source(source: bytes) -> str:
    """Digest what Python code does: no comment, docstring, format or import for types alone changes it.

    Versions of Python agree on it, for it takes from the syntax tree only what is there.
    """
    return sha256(repr(_outline(ast.parse(source))).encode()).hexdigest()[:16]


def _outline(value: Any) -> Any:
    """Give a syntax tree as nested lists: names of classes, and fields that are not empty."""
    if isinstance(value, list):
        return [_outline(item) for item in value]
    if not isinstance(value, ast.AST):
        return ascii(value)  # which signs `repr` escapes follows from Python's version
    fields = {name: field for name, field in ast.iter_fields(value) if field not in (None, [])}
    if isinstance(body := fields.get("body"), list):
        fields["body"] = [node for i, node in enumerate(body) if not _says_nothing(node, i)]
    return [type(value).__name__, *((name, _outline(field)) for name, field in fields.items())]


def _says_nothing(node: ast.AST, position: int) -> bool:
    """Tell whether a statement is for readers alone: a docstring, or imports of types."""
    if isinstance(node, ast.If) and not node.orelse:
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return is_text and position == 0
