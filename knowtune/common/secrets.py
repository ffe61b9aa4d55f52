"""What nobody else may read: passwords and tokens, hidden in whatever is printed, logged or noted down.

Two ways lead to them: their shape (what stands before the @ of an address, `?token=...`, `Bearer ...`, the prefixes
that hosts give their tokens), and their value, where an environment variable called a token, key or password has it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

HIDDEN = "***"
SHORTEST = 5  # characters of a secret that is looked for by its value; a shorter one would hide parts of words
NAMES = r"token|secret|password|passwd|pwd|passphrase|api[_-]?key|access[_-]?key|private[_-]?key|credentials?"
# PWD and OLDPWD are folders
VARIABLE = re.compile(rf"(?i)^(?!(?:OLD)?PWD$)(?:.*_)?(?:{NAMES}|(?:storage|account|master)_key)(?:_id)?$|^PGPASSWORD$")
SURE = 12  # characters of a value that no other text holds by chance
# a password in a variable's address may hold any character; `:80/` is a port
USER_INFO = re.compile(r"^[\w+.-]+://([^\s:/@]*:(?!\d+/)\S+|[^\s/@]+)@")
PLAIN = (
    re.compile(r"(?<=://)[^\s/?#\"'<>]+(?=@)"),
    re.compile(rf"(?i)(?<=[?&;])([\w.\[\]-]*(?:{NAMES}|key|sig|signature|auth)[\w.\]-]*=)[^&;#\s\"'<>]+"),
    re.compile(
        r"\bhf_(?=[A-Za-z]*[A-Z0-9])[A-Za-z0-9]{10,}|\bgh[pousr]_\w{16,}|\bgithub_pat_\w{16,}|\bglpat-[\w-]{16,}"
    ),
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bsk-[A-Za-z0-9_-]{20,}|\bxox[abposr]-[\w-]{10,}|\bpn[ubk]_\w{16,}"),
    re.compile(r"\bdapi[0-9a-f]{32}|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]+"),
)
LOOSE = (  # what in a message is most likely a secret, and in a person's own text need not be
    re.compile(rf"(?i)(\b[\w-]*(?:{NAMES})[\"']?\s*=\s*[\"']?)[^\s&;,\"'<>)]+"),
    re.compile(rf"(?i)(--[\w-]*(?:{NAMES})(?:\s+|=))\S+"),
    re.compile(r"(?i)(\bauthorization\b[\"']?\s*[:=]\s*[\"']?(?:bearer |basic |token )?)[^\s\"',]+"),
    re.compile(r"(?i)(\b(?:bearer|basic)\s+)[\w.~+/=-]{12,}"),
)


def mask(text: str) -> str:
    """Return a text without the passwords and tokens that are seen in it."""
    for value in _values(tuple(os.environ.items())):
        text = text.replace(value, HIDDEN)
    for shape in (*PLAIN, *LOOSE):
        text = shape.sub(lambda match: (match[1] if match.re.groups else "") + HIDDEN, text)
    return text


def has_secret(text: str) -> bool:
    """Say whether a text that a person wrote holds a password or token for sure."""
    environment = tuple(os.environ.items()) if len(text) >= SURE else ()  # reading it takes longer than all the rest
    return any(value in text for value in _values(environment) if len(value) >= SURE) or any(
        match[0].strip(HIDDEN) for shape in PLAIN for match in shape.finditer(text)
    )


def mask_values(value: Any) -> Any:
    """Mask every text within nested mappings and lists."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {mask_values(key): mask_values(inner) for key, inner in value.items()}
    return [mask_values(inner) for inner in value] if isinstance(value, list | tuple) else value


@lru_cache(maxsize=4)
def _values(environment: tuple[tuple[str, str], ...]) -> list[str]:
    """List the secrets that environment variables hold, as they are and as addresses write them, longest first."""
    forms: set[str] = set()
    for name, value in environment:
        is_file = value.startswith("/") and Path(value).exists()  # that of a secret is none
        secrets = [value] if VARIABLE.search(name) and not is_file else []
        for info in USER_INFO.findall(value):
            secrets += [info, info.partition(":")[2]]
        forms |= {form for secret in secrets for form in (secret, unquote(secret), quote(secret, safe=""))}
    return sorted((value for value in forms if len(value) >= SHORTEST), key=len, reverse=True)


class _Masked:
    """A text stream that masks what is written to it, and is otherwise the one it stands for."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text without its secrets."""
        self._stream.write(mask(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write texts without their secrets."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def mask_output() -> None:
    """Mask all that this process prints from here on: messages, warnings, logs, tracebacks."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _Masked):
            setattr(sys, name, _Masked(stream))
