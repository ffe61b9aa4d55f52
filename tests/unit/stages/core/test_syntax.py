from __future__ import annotations

import pytest

from stages.core.syntax import digest_source

CODE = b'''"""What it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SIGNS = ("\xe2\x80\xa6", b"\\x00", 1e-3, 10**20, None, ..., True)


@decorated(1, key=2)
class Shape(Base, flag=True):
    """A shape."""

    size: int = 1

    async def area(self, a: float, /, *rest: int, scale: float | None = None, **more: str) -> float:
        """Give its area."""
        match a:
            case {"x": [1, *_], **other} if other:
                return f"{a!r:>{scale}} {a=}" "!"
            case Shape(size=0) | None:
                pass
        try:
            return [x async for x in rest if x > 0][::2], {**more, "k": lambda: (yield)}
        except* (ValueError, KeyError) as error:
            raise error from None
        finally:
            del self.size
'''


def test_every_version_of_python_gives_this_digest() -> None:
    assert digest_source(CODE) == "4a30bae27c9720b2"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"What it is for.", b"Other words."),
        (b'    """A shape."""\n\n', b""),
        (b"Give its area.", b"Give the area."),
        (b"    from pathlib import Path\n", b"    import os\n    from pathlib import Path\n"),
        (b"size: int = 1\n", b"size: int = (\n        1  # a remark\n    )\n\n\n"),
        (b'"x"', b"'x'"),
    ],
)
def test_what_readers_alone_see_changes_nothing(before: bytes, after: bytes) -> None:
    assert before in CODE
    assert digest_source(CODE.replace(before, after)) == digest_source(CODE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"size: int = 1", b"size: int = 2"),
        (b"size: int = 1", b"size: float = 1"),
        (b"True)", b"1)"),
        (b"1e-3", b"0.01"),
        (b"[::2]", b"[2::]"),
        (b" from None", b""),
        (b"@decorated(1, key=2)\n", b""),
        (b"if TYPE_CHECKING:", b"if not TYPE_CHECKING:"),
        (b"                pass\n", b'                "no docstring"\n'),
        (b"        match a:", b'        "a text that stands second"\n        match a:'),
        (b"a: float, /, ", b"a: float, "),
    ],
)
def test_what_the_code_does_changes_it(before: bytes, after: bytes) -> None:
    assert before in CODE
    assert digest_source(CODE.replace(before, after)) != digest_source(CODE)
