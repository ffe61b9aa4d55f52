"""The whole pipeline on a classifier: an encoder and a data set in the hub's layout, fetched from local copies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stages.core.params import read_yaml
from tests.pipeline.conftest import Project

GOOD, BAD = "good fine great lovely".split(), "bad poor awful dull".split()


def write_encoder(folder: Path) -> None:
    """Save a tiny BERT without a head, as encoders come."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = [*special, *GOOD, *BAD, "the", "film", "is", "and", "it", "rained", "all", "day"]
    pieces = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    pieces.normalizer = normalizers.BertNormalizer()
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pieces, **names)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=32,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_reviews(folder: Path) -> None:
    """Save a data set as the hub lays one out: a card that names the files, Parquet shards."""
    import pyarrow
    import pyarrow.parquet

    (folder / "data").mkdir(parents=True)
    files = [f"  - split: {split}\n    path: data/{split}-*.parquet\n" for split in ("train", "test")]
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n" + "".join(files) + "---\nReviews.\n"
    (folder / "README.md").write_text(card)
    for split, count, second in (("train", 60, "and"), ("test", 24, "is")):
        rows = []
        for i in range(count):
            words = (GOOD, BAD)[i % 2]
            text = f"the film is {words[i // 2 % 4]} {second} {words[i // 8 % 4]} " + "the " * (i // 4 % 5)
            rows.append({"review": text, "label": 1 - i % 2})
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / f"data/{split}-00000-of-00001.parquet")


@pytest.fixture
def classifier(project: Project, tmp_path: Path) -> Project:
    """A params file `reviews.yaml` beside the toy project's own."""
    write_encoder(tmp_path / "encoder")
    write_reviews(tmp_path / "reviews")
    (tmp_path / "prose.csv").write_text("body\nit rained all day\nthe day is good\nall film is day\nit is it\n")

    def edit(params: dict[str, Any]) -> None:
        params["task"] = {"kind": "classification", "labels": ["negative", "positive"]}
        params["hub"] = {
            "encoder": {"kind": "model", "repo": str(tmp_path / "encoder"), "revision": None},
            "reviews": {
                "kind": "dataset",
                "repo": str(tmp_path / "reviews"),
                "revision": None,
                "config": None,
                "splits": ["train", "test"],
                "streaming": True,
                "max_rows": 48,
            },
        }
        params["source"] = {
            "format": "files",
            "data": "data/hub/reviews",
            "text": str(tmp_path / "prose.csv"),
            "text_column": "body",
            "files": {"train": "train.jsonl", "validation": None, "test": "test.jsonl", "known": None},
            "held_out": {"validation": 0.1, "test": 0},
            "several_answers": False,
            "columns": {"id": None, "text": "review", "text_pair": None, "label": "label"},
        }
        params["base"] = {"model": "folder", "path": "data/hub/encoder"}
        params["semantics"] = {"representation": "sentence_encoder", "path": "data/hub/encoder", "options": {}}
        params["prepare"] |= {"max_facts": None, "max_rejected": 0.5, "replay": {}}
        params["rehearse"] = None
        params["prepare"]["label_noise"] = {"wrong": 0, "contradictions": 0, "duplicates": 0, "empties": 0.05}
        params["evaluate"]["metrics"] = ["accuracy", "drift", "similarity_order", "f1", "matthews", "pushed_away"]
        del params["evaluate"]["retention"]  # of models that write
        params["training"] |= {"epochs": 20, "learning_rate": 0.005}
        params["runs"] = {
            "lora": {"selection": "clean", "method": "lora", "options": {"rank": 4, "alpha": 8}, "seeds": [0, 1]},
            "full": {"selection": "clean", "method": "full", "seeds": [0, 1]},
        }
        params["filters"] = {"clean": params["filters"]["clean"]}
        params["selections"] = {"clean": params["selections"]["clean"]}
        params["mixtures"] = {"half": {"from": ["lora"], "strategy": "interpolate", "options": {"alpha": 0.5}}}
        params["promote"] = {
            "run": "full", "bounds": {"drift": 2.0, "f1": 0.0}, "rejects": {"planted": 1.0, "unreviewed": 0.0},
        }  # fmt: skip

    own = (project.folder / "params.yaml").read_bytes()
    project.change(edit)
    (project.folder / "params.yaml").rename(project.folder / "reviews.yaml")
    (project.folder / "params.yaml").write_bytes(own)
    return project


def majority(data: Path) -> tuple[str, float]:
    """The most frequent training label, and its share of the test rows."""
    train, test = (
        [json.loads(line)["target"] for line in (data / f"prepared/{name}.jsonl").read_text().splitlines()]
        for name in ("train", "test")
    )
    label = max(["negative", "positive"], key=train.count)
    return label, test.count(label) / len(test)


def test_an_encoder_learns_labels(classifier: Project) -> None:
    stages = classifier.run("--params", "reviews.yaml")
    assert {"fetch@encoder", "fetch@reviews", "mix@half", "evaluate-run@full"} <= set(stages)
    data = classifier.folder / "workspaces/reviews/data"
    board = json.loads((data / "report/leaderboard.json").read_text())
    assert board["base"]["drift"]["mean"] == pytest.approx(0, abs=1e-9)
    assert board["base"]["similarity_order"]["mean"] == pytest.approx(1)
    verdict = json.loads((data / "gate/verdict.json").read_text())
    assert [check["name"] for check in verdict["checks"]] == [
        "new", "learned", "drift", "f1", "parity", "planted", "unreviewed",
    ]  # fmt: skip
    assert verdict["checks"][1]["text"].startswith("accuracy ")
    assert {candidate["run"] for candidate in verdict["candidates"]} == {"lora", "full", "half"}
    label, share = majority(data)
    assert list(board) == ["base", "full", "half", "lora", "majority"]
    assert board["majority"]["accuracy"] == {"mean": pytest.approx(share), "half_width": None, "n": 1}
    assert set(board["majority"]) == {"accuracy", "f1", "matthews"}
    table = (data / "report/leaderboard.md").read_text().splitlines()
    assert [line.split(" | ")[:2] for line in table[2:4]] == [
        ["| base", "pristine"],
        ["| majority", f"always {label!r}"],
    ]
    for run in ("lora", "full"):
        assert board[run]["accuracy"]["mean"] > 0.9
        assert board[run]["drift"]["mean"] > 0
        for parity in json.loads((data / f"merged/{run}/parity.json").read_text()).values():
            assert parity["largest"] < 1e-4
    assert 0 < board["half"]["drift"]["mean"] < board["lora"]["drift"]["mean"]
    assert board["half"]["accuracy"]["mean"] > 0.5
    examples = [json.loads(line) for line in (data / "evaluated/runs/lora/examples.jsonl").read_text().splitlines()]
    assert all(example["answer"] == example["predicted"] for example in examples)
    assert all((example["distance"] == 0) == example["correct"] for example in examples)
    answers = read_yaml(classifier.folder / "workspaces/reviews/dvc.lock")["stages"]["answers"]
    assert "data/hub/encoder" in {dep["path"] for dep in answers["deps"]}
    assert "pushed away" in (data / "report/index.html").read_text()
    assert (data / "hub/reviews/train.jsonl").read_text().count("\n") == 48
    assert "accuracy" in (data / "report/leaderboard.md").read_text()
    dropped = (data / "filtered/clean/dropped.jsonl").read_text()
    assert "the target has no text" in dropped
    adapter = json.loads((data / "adapters/lora/seed-0/adapter_config.json").read_text())
    assert adapter["task_type"] == "SEQ_CLS"
    done = classifier.command("cli", "compare", "--params", "reviews.yaml", "base", "full", "--json").stdout
    assert [(name, part["unit"]) for name, part in json.loads(done)["parts"].items()] == [("accuracy", "share")]
    assert classifier.run("--params", "reviews.yaml") == []


def test_a_label_out_of_range_stops_with_its_line(classifier: Project, tmp_path: Path) -> None:
    rows = [{"review": "the film is good", "label": 1}, {"review": "the film is bad", "label": 2}]
    (tmp_path / "reviews/data/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def edit(params: dict[str, Any]) -> None:
        params["source"]["data"] = str(tmp_path / "reviews/data")
        params["source"]["files"]["test"] = None

    own = classifier.folder / "params.yaml"
    kept = own.read_bytes()
    (classifier.folder / "reviews.yaml").rename(own)
    classifier.change(edit)
    own.rename(classifier.folder / "reviews.yaml")
    own.write_bytes(kept)
    done = classifier.command("cli", "run", "--params", "reviews.yaml", "prepare", check=False)
    assert done.returncode != 0
    assert "train.jsonl: line 2: label: got 2; allowed: 0 or 'negative', 1 or 'positive' (task.labels)" in done.stderr
    assert not (classifier.folder / "workspaces/reviews/data/prepared").exists()
