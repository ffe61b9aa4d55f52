from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from knowtune.common.secrets import has_secret, mask, mask_values

KEPT = [
    "https://example.org/owner/name?page=2&sort=up",
    "sqlite:////home/me/mlflow.db",
    "max_new_tokens=16, num_virtual_tokens: 2, TOKENIZERS_PARALLELISM=false",
    "write to me@example.org about the basic idea, a bearer of news",
    "hf_internal/tiny-model data/sk-learn",
    "experiment knowtune, run 'reproduce 2026-11-21 11:11:15'",
    "tag a@b at https://example.org/users/@me",
]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("at http://ann:s3cret@host:5000/x failed", "at http://***@host:5000/x failed"),
        ("http://ann:p@ss:w@host", "http://***@host"),
        ("postgresql+psycopg2://ann:s3cret@db/runs?sslmode=on", "postgresql+psycopg2://***@db/runs?sslmode=on"),
        ("git+https://x-access-token:abc@github.com/a/b.git", "git+https://***@github.com/a/b.git"),
        ("https://host/file?x=1&token=abc&y=2", "https://host/file?x=1&token=***&y=2"),
        ("https://b.s3.org/f?X-Amz-Signature=00ff&X-Amz-Expires=60", "https://b.s3.org/f?X-Amz-Signature=***&X-Amz-Expires=60"),
        ("{'Authorization': 'Bearer abc.def'}", "{'Authorization': 'Bearer ***'}"),
        ("header Bearer abcdefghijklmnop", "header Bearer ***"),
        ("hub hf_AbCdEfGhIjKlMnOpQrStUvWx01 said no", "hub *** said no"),
        ("AKIAIOSFODNN7EXAMPLE and ghp_0123456789abcdef0123", "*** and ***"),
        ("host=db user=me password=s3cret port=1", "host=db user=me password=*** port=1"),
        ("mlflow server --auth-token abc --port 1", "mlflow server --auth-token *** --port 1"),
    ],
)  # fmt: skip
def test_shapes_of_secrets_are_hidden(text: str, left: str) -> None:
    assert mask(text) == left
    assert mask(left) == left


@pytest.mark.parametrize("text", KEPT)
def test_other_text_is_left_as_it_is(text: str) -> None:
    assert mask(text) == text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("HF_TOKEN", "plain-word", "got plain-word"),
        ("MLFLOW_TRACKING_PASSWORD", "pass/w@rd", "user=x&p=pass%2Fw%40rd pass/w@rd"),
        ("AWS_SECRET_ACCESS_KEY", "aws+secret/", "aws+secret/"),
        ("AWS_ACCESS_KEY_ID", "not-the-usual-form", "not-the-usual-form"),
        ("PREFECT_API_KEY", "prefect-key", "(prefect-key)"),
        ("MLFLOW_TRACKING_URI", "http://ann:pa/ss#word@host/x", "http://ann:pa/ss#word@host/x and pa/ss#word"),
        ("SOME_URL", "http://ann:p%40ssword@host", "password p@ssword refused"),
    ],
)
def test_values_of_the_environment_are_hidden(
    name: str, value: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAGE", "http://host:80/users/@me")
    monkeypatch.setenv(name, value)
    assert mask("see http://host:80/users/") == "see http://host:80/users/"
    for part in ("plain-word", "pass/w", "pass%2Fw", "aws+sec", "usual", "prefect-", "ss#word", "p@ssw", "p%40"):
        assert part not in mask(text)


def test_what_a_person_may_not_write_into_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "a-token-of-mine")
    for text in ("https://ann:pw@h/data", "https://h/d?token=abc", "a-token-of-mine", "hf_AbCdEfGhIjKl0123"):
        assert has_secret(text)
    for text in ("The password = {prompt}", "say: Authorization: none", *KEPT):
        assert not has_secret(text)


@pytest.mark.parametrize(("name", "secret"), [("PWD", False), ("OLDPWD", False), ("DB_PWD", True), ("TOKEN", True)])
def test_the_shell_s_own_folder_is_no_password(name: str, secret: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "/somewhere/my/project")
    assert has_secret("/somewhere/my/project/data/text.jsonl") is secret
    assert (mask("in /somewhere/my/project") == "in ***") is secret


def test_folders_and_files_are_no_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PWD", "OLDPWD"):
        monkeypatch.setenv(name, "/some/where/else")
    monkeypatch.setenv("SSH_PRIVATE_KEY", str(tmp_path))
    for text in ("sqlite:////some/where/else/mlflow.db", f"{tmp_path}/x"):
        assert mask(text) == text


def test_nested_texts_are_hidden_and_numbers_kept() -> None:
    value = {"a": ["http://u:p4ssword@h", 1, None], "http://u:p4ssword@h": ("x",)}
    assert mask_values(value) == {"a": ["http://***@h", 1, None], "http://***@h": ["x"]}


CODE = """
import logging, sys, warnings
from knowtune.common.secrets import mask_output
mask_output(); mask_output()
print("one", "http://u:p4ssword@h", sep="=")
warnings.warn("http://u:p4ssword@h")
logging.warning("http://u:p4ssword@h")
sys.stderr.writelines(["http://u:p4ssword@h"])
raise ValueError("http://u:p4ssword@h")
"""


def test_nothing_that_is_printed_has_a_secret() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.stdout == "one=http://***@h\n"
    assert "p4ssword" not in done.stderr.replace('warnings.warn("http://u:p4ssword@h")', "")
    assert done.stderr.count("http://***@h") >= 4
    assert "ValueError: http://***@h" in done.stderr
