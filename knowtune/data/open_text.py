"""Open files of text: compressed or not, in UTF-8; what is neither is named, with the command that converts it."""

from __future__ import annotations

import importlib
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from knowtune.common.errors import UserError

COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".xz": "lzma"}  # ending -> Python's module
UNPACKED_BY = {"gzip": "gzip -dc", "bz2": "bzip2 -dc", "lzma": "xz -dc"}
ENCODINGS = {  # how a file begins that is in another one; longer beginnings first
    b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16",
}  # fmt: skip
ARCHIVES = {
    b"\x1f\x8b": "compressed by gzip; give it the ending .gz",
    b"BZh": "compressed by bzip2; give it the ending .bz2",
    b"\xfd7zX": "compressed by xz; give it the ending .xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it with `zstd -d`",
    b"PK\x03\x04": "a zip archive (or a spreadsheet); unpack it with `unzip`",
    b"PAR1": "a Parquet file; give it the ending .parquet",
}
MARK = b"\xef\xbb\xbf"  # of byte order, as some programs put before UTF-8


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, unpacked, past its mark of byte order.

    Raises:
        UserError: it cannot be read, is compressed otherwise than its ending says, or is in UTF-16 or UTF-32.
    """
    import lzma

    module = COMPRESSED.get(path.suffix.lower())
    try:
        with importlib.import_module(module).open(path, "rb") if module else path.open("rb") as file:
            start = file.read(4)
            file.seek(len(MARK) if start.startswith(MARK) else 0)
            _refuse(path, start)
            yield file
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        how = f"not {module}, or cut short" if module else "it cannot be read"
        raise UserError(f"{path}: {how} ({error})") from None


@contextmanager
def open_text(path: Path, newline: str | None = None) -> Iterator[IO[str]]:
    """Open a file as text.

    Args:
        path: of the file.
        newline: as Python's `open` takes it.

    Raises:
        UserError: as `open_bytes`, and where the text is not UTF-8.
    """
    try:
        with open_bytes(path) as file, io.TextIOWrapper(file, encoding="utf-8", newline=newline) as text:
            yield text
    except UnicodeDecodeError:
        raise _first_fault(path) from None


def not_utf8(path: Path, line: int, offset: int, error: UnicodeDecodeError) -> UserError:
    """Make the error for a line that is not UTF-8.

    Args:
        path: of the file.
        line: counted from 1.
        offset: of the line's first byte in the file, unpacked.
        error: of decoding that line.
    """
    byte = error.object[error.start]
    return UserError(
        f"{path}: line {line}: not UTF-8 (the byte 0x{byte:02x} at {offset + error.start}); {_conversion(path)}"
    )


def _first_fault(path: Path) -> UserError:
    """Look for the first line that is not UTF-8."""
    with open_bytes(path) as file:
        offset = file.tell()
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return not_utf8(path, number, offset, error)
            offset += len(line)
    return UserError(f"{path}: not UTF-8; {_conversion(path)}")


def _conversion(path: Path, encoding: str = "WINDOWS-1252") -> str:
    """Give the command that converts a file."""
    module = COMPRESSED.get(path.suffix.lower())
    plain = path.with_suffix("") if module else path
    new = plain.with_name(f"{plain.stem}-utf8{plain.suffix}")
    command = f"iconv -f {encoding} -t UTF-8"
    command = f"{UNPACKED_BY[module]} {path} | {command} > {new}" if module else f"{command} {path} > {new}"
    guessed = " if it was written on Windows in a Western language" * (encoding == "WINDOWS-1252")
    return f"`{command}` converts it" + guessed


def _refuse(path: Path, start: bytes) -> None:
    """Refuse what its first bytes say is no text in UTF-8."""
    for begin, what in ARCHIVES.items():
        if start.startswith(begin):
            raise UserError(f"{path}: it is {what}")
    encoding = next((name for begin, name in ENCODINGS.items() if start.startswith(begin)), None)
    if encoding is None and len(start) == 4 and start.count(0) == 2:
        encoding = "UTF-16LE" if start[1] == 0 else "UTF-16BE"
    if encoding:
        raise UserError(f"{path}: not UTF-8 but {encoding}; {_conversion(path, encoding)}")


def kind_of(path: Path) -> str:
    """Give a file's ending in small letters, without that of a compression."""
    inner: Any = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return str(inner.suffix.lower())
