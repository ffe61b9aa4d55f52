from __future__ import annotations

import json
from pathlib import Path

import pytest

from stages.core.syntax import KnownDigests, digest_source

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


def test_a_known_digest_is_read_and_not_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, right = tmp_path / "work/digests.json", digest_source(CODE)
    first = KnownDigests(path)
    assert first.digest(CODE) == right
    first.keep()
    KnownDigests(path).keep()  # one that has been asked nothing drops nothing
    monkeypatch.setattr("stages.core.syntax.digest_source", lambda _: "taken again")
    later = KnownDigests(path)
    assert (later.digest(CODE), later.digest(CODE + b"x = 1")) == (right, "taken again")
    later.keep()
    assert len(json.loads(path.read_text())["digests"]) == 2


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"by": 1}', b'{"by": "THIS", "digests": [1]}', b"\xff", None])
def test_damaged_digests_or_those_of_another_version_count_as_none(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "digests.json"
    known = KnownDigests(path)
    known.digest(CODE)
    known.keep()
    content = json.loads(path.read_text())
    another = {"by": "another", "digests": dict.fromkeys(content["digests"], "0")}
    path.write_bytes(
        json.dumps(another).encode() if damage is None else damage.replace(b"THIS", content["by"].encode())
    )
    assert KnownDigests(path).digest(CODE) == digest_source(CODE)


def test_digests_that_cannot_be_kept_are_taken_each_time(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("a file where the folder should be")
    known = KnownDigests(tmp_path / "work/digests.json")
    assert known.digest(CODE) == digest_source(CODE)
    known.keep()


def test_what_was_known_before_thousands_of_edits_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.core.syntax.MANY", 1)
    path = tmp_path / "digests.json"
    for number in range(4):
        known = KnownDigests(path)
        known.digest(f"x = {number}".encode())
        known.keep()
    assert len(json.loads(path.read_text())["digests"]) == 2
