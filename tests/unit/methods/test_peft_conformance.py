"""The parts of the conformance run that need neither PEFT's archive nor a network."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from tests.peft_conformance import sdist
from tests.peft_conformance.cases import LAYERS, TABLES, custom, init_flag, pairs
from tests.peft_conformance.hub import ADAPTERS, MODELS
from tests.peft_conformance.sdist import ConformanceError, checked, fetch, link, pinned, unpack
from tests.peft_conformance.tuners import CONTROLS, TUNERS, Tuner

ROOT = Path(__file__).parents[3]
DIGEST = hashlib.sha256(b"archive").hexdigest()
PAGE = f'<a href="../../files/peft-1.0.tar.gz#sha256={DIGEST}">x</a><a href="peft-2.0.tar.gz">y</a>'


def test_the_version_is_the_pinned_one(tmp_path: Path) -> None:
    import peft

    assert pinned(ROOT / "constraints.txt") == peft.__version__
    (tmp_path / "constraints.txt").write_text("peft-extra==9\n")
    with pytest.raises(ConformanceError, match=r"pins no version of peft; expected a line `peft==VERSION`"):
        pinned(tmp_path / "constraints.txt")


def test_links_are_resolved_against_their_page() -> None:
    assert link(PAGE, "https://index/simple/peft/", "peft-1.0.tar.gz") == (
        "https://index/files/peft-1.0.tar.gz",
        DIGEST,
    )


@pytest.mark.parametrize(
    ("name", "message"), [("peft-2.0.tar.gz", "states no SHA-256"), ("peft-3.0.tar.gz", "lists no")]
)
def test_a_link_needs_a_digest(name: str, message: str) -> None:
    with pytest.raises(ConformanceError, match=f"{message}.*{name}"):
        link(PAGE, "https://index/simple/peft/", name)


def test_a_wrong_file_is_refused() -> None:
    assert checked(b"archive", DIGEST, "it") == b"archive"
    with pytest.raises(ConformanceError, match=f"it: SHA-256 is .*, expected {DIGEST}"):
        checked(b"another", DIGEST, "it")


def archive(cache: Path, *members: str) -> None:
    with tarfile.open(cache / "peft-1.0.tar.gz", "w:gz") as tar:
        for name in members:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    digest = hashlib.sha256((cache / "peft-1.0.tar.gz").read_bytes()).hexdigest()
    (cache / "peft-1.0.tar.gz.sha256").write_text(digest + "\n")


def test_a_cached_archive_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdist, "_read", lambda url: pytest.fail(f"read {url}"))
    archive(tmp_path, "peft-1.0/tests/test_a.py", "peft-1.0/tests/notes.md", "peft-1.0/setup.py")
    suite = unpack("1.0", tmp_path) / sdist.SUITE
    assert sorted(path.name for path in suite.iterdir()) == ["__init__.py", "test_a.py"]
    (tmp_path / "peft-1.0.tar.gz").write_bytes(b"another")
    with pytest.raises(ConformanceError, match="SHA-256 is"):
        fetch("1.0", tmp_path)


def test_an_archive_without_tests_is_refused(tmp_path: Path) -> None:
    archive(tmp_path, "peft-1.0/setup.py")
    with pytest.raises(ConformanceError, match=r"peft-1\.0\.tar\.gz holds no tests"):
        unpack("1.0", tmp_path)


def test_no_network_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str) -> bytes:
        raise OSError("unreachable")

    monkeypatch.setattr(sdist, "_read", refuse)
    monkeypatch.setattr(sdist, "_index", lambda: "https://index/")
    with pytest.raises(ConformanceError, match=r"cannot fetch peft-1\.0\.tar\.gz: unreachable\. It is needed once"):
        fetch("1.0", tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("tuner", [*TUNERS.values(), *CONTROLS.values()], ids=[*TUNERS, *CONTROLS])
def test_every_table_has_rows_for_every_tuner(tuner: Tuner) -> None:
    assert set(tuner.layers) <= set(LAYERS)
    assert init_flag(tuner).startswith("init_")
    for tables in TABLES.values():
        for name, rows in tables.items():
            assert rows(tuner) or name == "LAYER_INDEXING_CONFIG_CLASSES" or not tuner.layers
    for _, _, config_class, arguments in custom(tuner):
        config_class(**arguments)
    for _, _, config_class, first, second in pairs(tuner) if tuner.layers else ():
        assert config_class(**first).target_modules == {"lin0"} and config_class(**second)


def test_no_tuner_is_hidden_by_a_control() -> None:
    assert not set(TUNERS) & set(CONTROLS)


def test_stand_ins_are_models_of_transformers() -> None:
    assert all(name.count("/") == 1 for name in [*MODELS, *ADAPTERS])
    for class_name, arguments in MODELS.values():
        config = getattr(transformers, class_name).config_class(**arguments)
        assert config.model_type in CONFIG_MAPPING_NAMES and config.vocab_size == 128
