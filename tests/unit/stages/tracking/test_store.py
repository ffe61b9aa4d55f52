from __future__ import annotations

import subprocess
import sys

import pytest

from stages.tracking.addresses import StoreError, address_of, lock_of, name_of
from stages.tracking.store import artifacts_beside, in_words


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (StoreError("no answer within 5 s"), "no answer within 5 s"),
        (ValueError("one\ntwo"), "ValueError: one"),
        (RuntimeError("API request to x failed with exception HTTPConnectionPool(host='h', port=1): Max retries "
                      "exceeded with url: /y (Caused by ResponseError('too many 503 error responses'))"),
         "RuntimeError: ResponseError('too many 503 error responses')"),
        (RuntimeError("(raised by X)\n(sqlite3.OperationalError) attempt to write a readonly database\n[SQL: ..."),
         "RuntimeError: attempt to write a readonly database"),
        (RuntimeError("Detected out-of-date database schema (found version a, but expected b)"),
         "another version of MLflow wrote it; `.venv/bin/mlflow db upgrade ADDRESS` brings it up to date "
         "(Detected out-of-date database schema (found version a, but expected b))"),
    ],
)  # fmt: skip
def test_an_error_is_one_line(error: Exception, words: str) -> None:
    assert in_words(error) == words


def test_a_store_is_named_without_its_secret_and_found_by_who_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:s3cret-word@host")
    assert name_of() == "http://***@host"
    assert address_of("http://***@host") == "http://ann:s3cret-word@host"
    assert address_of("http://another") == "http://another"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(StoreError, match="not in this run's environment"):
        address_of("http://***@host")
    assert lock_of("tracker", name_of()) == "tracker"
    assert lock_of("tracker", "http://a") != lock_of("tracker", "http://b")


def test_the_command_speaks_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "stages.tracking"],
        env={"MLFLOW_TRACKING_URI": "file:runs"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: file:runs: MLflow 3.14 and later keep no runs in plain folders")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("sqlite:////home/ann/my%20runs/mlflow.db?timeout=9", "file:///home/ann/my%20runs/mlartifacts"),
        ("sqlite:///:memory:", None),
        ("http://host:5000", None),
        ("postgresql://host/runs", None),
    ],
)
def test_artifacts_lie_beside_a_store_that_is_a_file(uri: str, place: str | None) -> None:
    assert artifacts_beside(uri) == place
