"""Fetch PEFT's source distribution and unpack its tests, without running its build.

`pip download --no-binary` would run PEFT's build to learn its metadata; so the page of the index is read here, and the
archive is checked against the SHA-256 that the page states.
"""

import hashlib
import os
import re
import ssl
import subprocess
import sys
import tarfile
import urllib.request
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urldefrag, urljoin

SUITE = "peft_suite"  # not `tests`: that is our own package


class ConformanceError(Exception):
    """What keeps the suite from being run."""


def pinned(constraints: Path, package: str = "peft") -> str:
    """Return the version that a constraints file pins a package to."""
    found = re.search(rf"^{re.escape(package)}==(\S+)$", constraints.read_text(), re.MULTILINE)
    if not found:
        raise ConformanceError(f"{constraints} pins no version of {package}; expected a line `{package}==VERSION`")
    return found[1]


def link(page: str, base: str, filename: str) -> tuple[str, str]:
    """Return address and SHA-256 of a file listed on an index page.

    Args:
        page: The page's HTML.
        base: The page's own address; links may be relative to it.
        filename: The file that is wanted.

    Raises:
        ConformanceError: The page lists no such file, or states no SHA-256 for it.
    """
    hrefs: list[str] = []

    class Anchors(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            hrefs.extend(value for name, value in attrs if tag == "a" and name == "href" and value)

    Anchors().feed(page)
    for href in hrefs:
        address, fragment = urldefrag(urljoin(base, href))
        if address.rpartition("/")[2] == filename:
            if not re.fullmatch(r"sha256=[0-9a-f]{64}", fragment):
                raise ConformanceError(f"{base} states no SHA-256 for {filename}")
            return address, fragment.removeprefix("sha256=")
    raise ConformanceError(f"{base} lists no {filename}")


def checked(content: bytes, digest: str, name: str) -> bytes:
    """Return the content if its SHA-256 is the one expected, else raise."""
    got = hashlib.sha256(content).hexdigest()
    if got != digest:
        raise ConformanceError(f"{name}: SHA-256 is {got}, expected {digest}; delete it and try again")
    return content


def _setting(name: str) -> str:
    """Return a setting of pip, from the environment or its files; empty if there is none."""
    shown = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", f"global.{name}"], capture_output=True, text=True, check=False
    )
    return os.environ.get("PIP_" + name.upper().replace("-", "_")) or shown.stdout.strip()


def _index() -> str:
    """Return the address of the package index that pip would use."""
    from pip._internal.models.index import PyPI

    return (_setting("index-url") or PyPI.simple_url).rstrip("/") + "/"


def _read(url: str) -> bytes:
    context = ssl.create_default_context(cafile=_setting("cert") or None)
    with urllib.request.urlopen(
        urllib.request.Request(url, headers={"Accept": "text/html"}), timeout=60, context=context
    ) as reply:
        return bytes(reply.read())


def fetch(version: str, cache: Path) -> bytes:
    """Return PEFT's source archive, from the cache if it is there, checked either way.

    Args:
        version: PEFT's version.
        cache: Folder that keeps the archive, and beside it the digest that the index stated.
    """
    archive = cache / f"peft-{version}.tar.gz"
    stated = cache / f"{archive.name}.sha256"
    if archive.exists() and stated.exists():
        return checked(archive.read_bytes(), stated.read_text().strip(), str(archive))
    page = f"{_index()}peft/"
    try:
        address, digest = link(_read(page).decode(), page, archive.name)
        print(f"fetching {archive.name}", flush=True)
        content = checked(_read(address), digest, archive.name)
    except OSError as error:
        raise ConformanceError(
            f"cannot fetch {archive.name}: {error}. It is needed once; later runs need no network"
        ) from error
    cache.mkdir(parents=True, exist_ok=True)
    archive.write_bytes(content)
    stated.write_text(digest + "\n")
    return content


def unpack(version: str, cache: Path) -> Path:
    """Return a folder with the package `peft_suite`: the tests of PEFT's source archive."""
    fetch(version, cache)
    root = cache / version
    suite = root / SUITE
    prefix = f"peft-{version}/tests/"
    suite.mkdir(parents=True, exist_ok=True)
    with tarfile.open(cache / f"peft-{version}.tar.gz") as tar:
        members = [m for m in tar.getmembers() if m.isfile() and m.name.startswith(prefix) and m.name.endswith(".py")]
        if not members:
            raise ConformanceError(f"peft-{version}.tar.gz holds no tests")
        for member in members:
            member.name = member.name.removeprefix(prefix)
            tar.extract(member, suite, filter="data")
    (suite / "__init__.py").touch()  # its modules import each other relatively
    return root
