"""The digest of Python code by what it does, not by how it is written down."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from typing import Any


@cache  # within a process, for edit after edit
def digest_source(source: bytes) -> str:
    """Digest what Python code does: no comment, docstring, format or import for types alone changes it.

    Versions of Python agree on it, for it takes from the syntax tree only what is there.
    """
    return hashlib.sha256(repr(_outline(ast.parse(source))).encode()).hexdigest()[:16]


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
