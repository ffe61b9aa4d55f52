from __future__ import annotations

import datetime
import decimal
import json
import os
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from knowtune.checkpoints.base import Base
from knowtune.checkpoints.cards import ORIGIN, make_card
from knowtune.checkpoints.hub import fetch_model
from knowtune.common.errors import UserError
from knowtune.common.files import read_json
from knowtune.data.hub import fetch_dataset
from knowtune.data.records import read_records
from knowtune.text.cells import text_of

SHA = "0123456789abcdef0123456789abcdef01234567"
ROOT = Path(__file__).resolve().parents[3]
CARD = """---
configs:
- config_name: plain
  default: true
  data_files:
  - split: train
    path: data/train-*.parquet
  - split: test
    path: data/test-*.parquet
- config_name: turned
  data_files:
  - split: train
    path: turned/train-*.parquet
---
# Facts
"""


@pytest.fixture(autouse=True)
def _own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what the libraries cache stay inside the test."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    """A data set as the hub lays it out: a card, and shards of Parquet."""
    folder = tmp_path / "facts"
    rows = [{"q": f"é {i}", "a": [f"a{i}", "b"], "n": i} for i in range(5)]
    shards = {
        "data/train-00000-of-00002": rows[:3], "data/train-00001-of-00002": rows[3:],
        "data/test-00000-of-00001": rows[:1], "turned/train-00000-of-00001": rows[::-1],
    }  # fmt: skip
    for name, part in shards.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pa.Table.from_pylist(part), folder / f"{name}.parquet")
    (folder / "README.md").write_text(CARD)
    return folder


def fetch(repo: Path, out: Path, **options: Any) -> dict[str, int]:
    nothing = {"config": None, "splits": ["train"], "streaming": False, "max_rows": None}
    return fetch_dataset(str(repo), None, out, **{**nothing, **options})  # type: ignore[arg-type]


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [record for _, record in read_records(path)]


class TestDataset:
    @pytest.mark.parametrize("streaming", [False, True])
    def test_splits_become_files_of_records(self, facts: Path, tmp_path: Path, streaming: bool) -> None:
        found = fetch(facts, tmp_path / "out", splits=["train", "test"], streaming=streaming)
        assert found == {"train": 5, "test": 1}
        assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["test.jsonl", "train.jsonl"]
        assert rows_of(tmp_path / "out" / "train.jsonl") == [
            {"q": f"é {i}", "a": [f"a{i}", "b"], "n": i} for i in range(5)
        ]

    @pytest.mark.parametrize("streaming", [False, True])
    def test_the_first_rows_of_a_configuration(self, facts: Path, tmp_path: Path, streaming: bool) -> None:
        found = fetch(facts, tmp_path / "out", config="turned", max_rows=2, streaming=streaming)
        assert found == {"train": 2}
        assert [row["n"] for row in rows_of(tmp_path / "out" / "train.jsonl")] == [4, 3]

    def test_fewer_rows_than_wanted(self, facts: Path, tmp_path: Path) -> None:
        assert fetch(facts, tmp_path / "out", max_rows=99) == {"train": 5}

    def test_twice_equal_bytes(self, facts: Path, tmp_path: Path) -> None:
        for name in ("a", "b"):
            fetch(facts, tmp_path / name, streaming=name == "b")
        assert (tmp_path / "a" / "train.jsonl").read_bytes() == (tmp_path / "b" / "train.jsonl").read_bytes()

    @pytest.mark.parametrize("streaming", [False, True])
    def test_an_unknown_split(self, facts: Path, tmp_path: Path, streaming: bool) -> None:
        with pytest.raises(UserError) as caught:
            fetch(facts, tmp_path / "out", splits=["train", "dev"], streaming=streaming)
        assert str(caught.value).startswith(f"hub: {facts}: ")
        assert "dev" in str(caught.value) and "train" in str(caught.value)
        assert not (tmp_path / "out" / "dev.jsonl").exists()

    def test_an_unknown_configuration(self, facts: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"turnd.*plain.*turned"):
            fetch(facts, tmp_path / "out", config="turnd")

    @pytest.mark.parametrize("name", ["gone", "empty"])
    def test_no_data_set_there(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(UserError) as caught:
            fetch(tmp_path / name, tmp_path / "out")
        assert str(caught.value).startswith(f"hub: {tmp_path / name}: ")

    @pytest.mark.parametrize("streaming", [False, True])
    def test_cells_of_many_types_are_read_as_from_a_file(self, tmp_path: Path, streaming: bool) -> None:
        values = {
            "year": pa.array([1960.0, None]), "small": pa.array([0.1, 2.5], pa.float32()),
            "bytes": pa.array([b"ab", None]),
            "day": pa.array([datetime.date(1969, 7, 20), None]), "price": pa.array([decimal.Decimal("1.10"), None]),
            "odd": pa.array([b"\xff", None]), "nested": pa.array([{"text": ["a"]}, None]),
            "true": pa.array([True, None]),
        }  # fmt: skip
        (tmp_path / "many" / "data").mkdir(parents=True)
        pyarrow.parquet.write_table(pa.table(values), tmp_path / "many" / "data" / "train-00000-of-00001.parquet")
        assert fetch(tmp_path / "many", tmp_path / "out", streaming=streaming) == {"train": 2}
        first, second = rows_of(tmp_path / "out" / "train.jsonl")
        assert {name: text_of(first[name]) for name in values if name not in ("odd", "nested")} == {
            "year": "1960", "small": "0.1", "bytes": "ab", "day": "1969-07-20", "price": "1.10", "true": "true"
        }  # fmt: skip
        assert (first["nested"], first["odd"]) == ({"text": ["a"]}, {"unreadable": "bytes that are no UTF-8 text"})
        assert {name for name, cell in second.items() if cell is None} == set(values) - {"small"}
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["train.jsonl"]

    @pytest.mark.parametrize("streaming", [False, True])
    def test_labels_are_written_by_name(self, tmp_path: Path, streaming: bool) -> None:
        from datasets import ClassLabel, Dataset, Features, Value

        features = Features({"text": Value("string"), "label": ClassLabel(names=["1", "2"])})
        made = Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, -1]}, features=features)
        (tmp_path / "stars" / "data").mkdir(parents=True)
        made.to_parquet(tmp_path / "stars" / "data" / "train-00000-of-00001.parquet")
        fetch(tmp_path / "stars", tmp_path / "out", streaming=streaming)
        assert [row["label"] for row in rows_of(tmp_path / "out" / "train.jsonl")] == ["1", "2", None]


class TestModel:
    @pytest.fixture
    def copy(self, base: Base, tmp_path: Path) -> Path:
        shutil.copytree(base.folder, tmp_path / "model")
        for name in ("README.md", "pytorch_model.bin", "modeling_own.py", "optimizer.pt"):
            (tmp_path / "model" / name).write_text("x")
        (tmp_path / "model" / "chat_template.jinja").write_text("{{ messages }}")
        return tmp_path / "model"

    def test_what_is_fetched_of_a_local_copy(self, base: Base, copy: Path, tmp_path: Path) -> None:
        fetch_model(str(copy), None, tmp_path / "out")
        assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
            "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
            "tokenizer_config.json",
        ]  # fmt: skip
        card = make_card(tmp_path / "out", "out")
        assert (card["identity"], card["origin"]) == ("out", None)

    def test_fetched_again_it_takes_the_place_of_what_was_there(self, copy: Path, tmp_path: Path) -> None:
        for text in ("one", "two"):
            (copy / "chat_template.jinja").unlink()
            (copy / "chat_template.jinja").write_text(text)
            fetch_model(str(copy), None, tmp_path / "out")
        assert (tmp_path / "out" / "chat_template.jinja").read_text() == "two"

    def test_pickled_weights_are_not_fetched(self, copy: Path, tmp_path: Path) -> None:
        (copy / "model.safetensors").unlink()
        with pytest.raises(UserError) as caught:
            fetch_model(str(copy), None, tmp_path / "out")
        assert str(caught.value) == (
            f"hub: {copy}: no safetensors weights in it; pickled weights can run code and are not fetched. "
            "Many repositories have a revision with safetensors"
        )
        assert not (tmp_path / "out").exists()

    def test_no_such_folder(self, tmp_path: Path) -> None:
        with pytest.raises(UserError) as caught:
            fetch_model(str(tmp_path / "gone"), None, tmp_path / "out")
        assert str(caught.value) == f"hub: {tmp_path / 'gone'}: nothing is there"


FETCH = """
import sys
from pathlib import Path
from knowtune.common.errors import TransientError, UserError
from knowtune.checkpoints.hub import fetch_model
from knowtune.data.hub import fetch_dataset

kind, repo, revision, out = sys.argv[1:]
try:
    if kind == "model":
        fetch_model(repo, revision, Path(out))
    else:
        fetch_dataset(repo, revision, Path(out), config=None, splits=["train"], streaming=False, max_rows=None)
except UserError as error:
    print(type(error).__name__, error)
"""


def offline(cache: Path, *arguments: str, **settings: str) -> str:
    """Fetch in a process of its own, where the hub's libraries read their settings anew, without a network."""
    environment = {
        **os.environ,
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(cache / "d"),
        **settings,
    }
    command = [sys.executable, "-c", FETCH, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class TestHub:
    @pytest.fixture
    def cache(self, base: Base, tmp_path: Path) -> Path:
        """The hub's cache with one model: blobs, and a snapshot of links to them."""
        repo = tmp_path / "hub" / "models--acme--tiny"
        snapshot = repo / "snapshots" / SHA
        snapshot.mkdir(parents=True)
        (repo / "blobs").mkdir()
        (repo / "refs").mkdir()
        (repo / "refs" / "main").write_text(SHA)
        for number, path in enumerate(sorted(base.folder.iterdir())):
            shutil.copyfile(path, repo / "blobs" / str(number))
            (snapshot / path.name).symlink_to(f"../../blobs/{number}")
        return tmp_path / "hub"

    def test_a_model_of_the_cache(self, base: Base, cache: Path, tmp_path: Path) -> None:
        assert offline(cache, "model", "acme/tiny", SHA, str(tmp_path / "out")) == ""
        out = tmp_path / "out"
        assert not any(path.is_symlink() for path in out.iterdir())
        assert read_json(out / ORIGIN) == {"repo": "acme/tiny", "revision": SHA}
        card = make_card(out, "out")
        assert (card["identity"], card["digest"]) == ("acme/tiny@01234567", base.digest)
        assert card["origin"] == {"repo": "acme/tiny", "revision": SHA}
        assert str(tmp_path) not in json.dumps(card)

    @pytest.mark.parametrize(
        ("kind", "repo", "revision"),
        [("model", "acme/tiny", SHA[::-1]), ("model", "acme/else", SHA), ("dataset", "acme/facts", SHA)],
    )
    def test_a_hub_that_cannot_be_reached_may_be_tried_again(
        self, cache: Path, tmp_path: Path, kind: str, repo: str, revision: str
    ) -> None:
        assert offline(cache, kind, repo, revision, str(tmp_path / "out")) == (
            f"TransientError hub: {repo} at {revision[:8]}: the hub cannot be reached, and this machine's cache does "
            "not have it. Try again, or download it elsewhere and give the folder as `repo`"
        )
        assert not list((tmp_path / "out").glob("*"))

    @pytest.mark.parametrize(
        ("status", "kind", "says"),
        [(404, "UserError", "not found, or not yours to read"), (403, "UserError", "the hub answers 403: ")],
    )  # fmt: skip
    def test_what_a_hub_answers(self, tmp_path: Path, status: int, kind: str, says: str) -> None:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                if status == 404:
                    self.send_header("X-Error-Code", "RepoNotFound")
                self.end_headers()

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *args: object) -> None:
                """Be quiet."""

        with HTTPServer(("127.0.0.1", 0), Answer) as server:
            thread = Thread(target=server.serve_forever, daemon=True)
            thread.start()
            address = f"http://127.0.0.1:{server.server_port}"
            out = str(tmp_path / "out")
            found = offline(tmp_path / "hub", "model", "acme/tiny", SHA, out, HF_HUB_OFFLINE="0", HF_ENDPOINT=address)
            server.shutdown()
            thread.join()
        assert found.startswith(f"{kind} hub: acme/tiny at {SHA[:8]}: {says}")
