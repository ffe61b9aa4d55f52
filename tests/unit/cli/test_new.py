from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cli.checks import check_params
from cli.new import new
from cli.proposing.columns import look
from cli.proposing.data import in_order, look_at_hub
from cli.proposing.guess import propose
from cli.proposing.model import look_at_model
from cli.proposing.numbers import numbers_for
from cli.proposing.overrides import Overrides
from cli.proposing.paths import preset_path, valid_name
from cli.proposing.repository import Repository, parse_repository
from cli.proposing.showing import BY_HAND
from cli.proposing.trial import text_column
from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from stages.core.params import read_yaml

NO_FACTS = {"id": None, "fact": None, "relation": None, "subject": None, "template": None}
HASH = "0123456789abcdef0123456789abcdef01234567"


def repeated(make: Callable[[int], dict[str, Any]], count: int = 60) -> list[dict[str, Any]]:
    return [make(i) for i in range(count)]


def glue(i: int) -> dict[str, Any]:
    return {"sentence1": f"one cat {i} sat", "sentence2": f"cat {i} sits", "label": i % 2, "idx": i}


def fact(i: int) -> dict[str, Any]:
    subject, wording = f"Zor{i // 2}", ("The colour of {} is", "{} has the colour")[i % 2]
    return {"key": f"{i}", "thing": subject, "question": wording.format(subject), "answer": ("red", "blue")[i % 4 // 2]}


SHAPES: dict[str, tuple[list[dict[str, Any]], str, dict[str, Any]]] = {
    "glue": (
        repeated(glue),
        "classification",
        {"id": "idx", "text": "sentence1", "text_pair": "sentence2", "label": "label"},
    ),
    "nli": (
        repeated(lambda i: {"premise": f"a {i}", "hypothesis": f"b {i}", "gold_label": ["yes", "no", "so"][i % 3]}),
        "classification",
        {"id": None, "text": "premise", "text_pair": "hypothesis", "label": "gold_label"},
    ),
    "qnli": (
        repeated(lambda i: {"question": f"What is {i}?", "sentence": f"It is {i}.", "label": ["no", "yes"][i % 2]}),
        "classification",
        {"id": None, "text": "question", "text_pair": "sentence", "label": "label"},
    ),
    "odd names": (
        repeated(lambda i: {"Review Text": f"this film {i} was well made", "senti: ment": ["good: yes", "bad"][i % 2]}),
        "classification",
        {"id": None, "text": "Review Text", "text_pair": None, "label": "senti: ment"},
    ),
    "scores": (
        repeated(lambda i: {"sentence1": f"a {i}", "sentence2": f"b {i}", "score": i / 7}),
        "regression",
        {"id": None, "text": "sentence1", "text_pair": "sentence2", "label": "score"},
    ),
    "stars": (
        repeated(lambda i: {"review": f"a film {i}", "stars": str(i % 5 + 1)}),
        "classification",
        {"id": None, "text": "review", "text_pair": None, "label": "stars"},
    ),
    "squad": (
        repeated(
            lambda i: {"id": f"q{i}", "context": f"In {i}.", "question": f"Where {i}?", "answers": [f"{i}", f"the {i}"]}
        ),
        "knowledge",
        {**NO_FACTS, "id": "id", "prompt": "{context}\n\nQuestion: {question}\nAnswer: ", "target": "answers"},
    ),
    "alpaca": (
        repeated(lambda i: {"instruction": f"Do {i}", "input": "" if i % 2 else f"with {i}", "output": f"done {i}"}),
        "knowledge",
        {**NO_FACTS, "prompt": "{instruction}\n{input}\n\nAnswer: ", "target": "output"},
    ),
    "completion": (
        repeated(lambda i: {"prompt": f"The town {i} lies in", "completion": f"land {i}"}),
        "knowledge",
        {**NO_FACTS, "prompt": "prompt", "target": "completion"},
    ),
    "messages": (
        repeated(
            lambda i: {"messages": [{"role": "user", "content": f"hi {i}"}, {"role": "assistant", "content": "ho"}]}
        ),
        "knowledge",
        {**NO_FACTS, "messages": "messages"},
    ),
    "facts": (
        repeated(fact),
        "knowledge",
        {**NO_FACTS, "id": "key", "fact": "thing", "subject": "thing", "prompt": "question", "target": "answer"},
    ),
    "pararel": (
        repeated(
            lambda i: {
                "uid": i,
                "relation": "capital",
                "subject": f"Land {i // 2}",
                "pattern": f"[X] {i % 2}",
                "prompt": f"Land {i // 2} has {i % 2}",
                "target": f"Town {i // 2}",
            }
        ),
        "knowledge",
        {
            "id": "uid",
            "fact": ["relation", "subject"],
            "relation": "relation",
            "subject": "subject",
            "template": "pattern",
            "prompt": "prompt",
            "target": "target",
        },
    ),
    "triples": (
        repeated(lambda i: {"subject": f"Land {i}", "relation": "has the capital", "object": f"Town {i}"}),
        "knowledge",
        NO_FACTS
        | {"relation": "relation", "subject": "subject", "prompt": "{subject} {relation} ", "target": "object"},
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_task_and_columns_are_guessed(shape: str) -> None:
    records, task, columns = SHAPES[shape]
    guess = propose(look(records))
    assert guess is not None
    assert (guess.task, guess.columns) == (task, columns)


def test_what_is_not_sure_is_said() -> None:
    def unsure(records: list[dict[str, Any]]) -> str:
        guess = propose(look(records))
        assert guess is not None
        return " ".join([*guess.notes, *guess.doubts])

    assert "as the model knows it" in unsure(SHAPES["alpaca"][0])
    assert "'senti: ment' is taken for the label" in unsure(SHAPES["odd names"][0])
    assert "as a score it were regression" in unsure(SHAPES["stars"][0])
    assert "only 2 different answers in 'answer'" in unsure(SHAPES["facts"][0])
    assert unsure(SHAPES["glue"][0]) == unsure(SHAPES["pararel"][0]) == ""
    ends_wrong = [*SHAPES["messages"][0], {"messages": [{"role": "user", "content": "hi"}]}]
    assert "1 chats do not end with the assistant" in unsure(ends_wrong)
    assert "'title' would be text too" in unsure(
        repeated(lambda i: {"text": f"a b c {i}", "title": f"t {i}", "label": i % 2})
    )


def test_a_model_that_writes_decides_what_is_ambiguous() -> None:
    both = look(repeated(lambda i: {"prompt": f"p {i}", "completion": f"c {i}", "label": i % 2}))
    tasks = [guess.task for can in (True, False, None) if (guess := propose(both, generates=can))]
    assert tasks == ["knowledge", "classification", "classification"]
    assert propose(look(SHAPES["completion"][0]), generates=False) is None


def test_columns_that_a_mapping_cannot_name() -> None:
    columns = {
        column.name: column.unusable
        for column in look(
            [
                {
                    "a{b}": 1,
                    "answers": {"text": ["x"]},
                    "chat": [{"from": "human", "value": "hi"}],
                    "none": None,
                    "ok": 1,
                },
                {
                    "a{b}": 1,
                    "answers": {"text": ["x"]},
                    "chat": [{"from": "gpt", "value": "ho"}],
                    "none": "",
                    "rare": 1,
                },
            ]
        )
    }
    assert columns["a{b}"] == "a name with { would be read as a template; rename the column"
    assert columns["answers"].startswith("a nested value with text; put what is meant into a column of its own")
    assert columns["chat"] == ""
    assert columns["none"] == "no row has a value"
    assert "some rows lack it" in columns["ok"]
    assert "some rows lack it" in columns["rare"]


def test_labels_are_ordered_so_that_numbers_mean_places() -> None:
    assert in_order(["10", "2", "1"]) == ["1", "2", "10"]
    assert in_order(["b", "a", "1"]) == ["1", "a", "b"]


def test_names_and_paths(tmp_path: Path) -> None:
    assert [valid_name(text) for text in ("my file (2)", "été", "__", "a.b")] == ["my-file-2", "t", "mine", "a-b"]
    assert parse_repository(f"o/n@{HASH}:part") == Repository("o/n", HASH, "part")
    assert parse_repository("o/n") == Repository("o/n", None, None)
    assert parse_repository("a/b/c") is None
    assert preset_path(tmp_path / "a b/c", tmp_path) == "a b/c"
    assert preset_path(tmp_path / "data/hub/c", tmp_path) == str(tmp_path / "data/hub/c")
    assert preset_path(Path("/x"), tmp_path) == "/x"
    with pytest.raises(UserError, match="the name is not UTF-8; rename"):
        preset_path(tmp_path / "\udcff", tmp_path)


def test_larger_models_get_smaller_numbers() -> None:
    small, middle, large = (numbers_for("knowledge", 10_000, size, 512, 5) for size in (3, 100, 7_000))
    assert small.lora_rate > middle.lora_rate > large.lora_rate
    assert (small.full_rate or 0) > (middle.full_rate or 0) > 0
    assert large.full_rate is None
    assert (small.seeds, large.seeds) == ([0, 1, 2], [0])
    assert large.rank < small.rank
    assert numbers_for("knowledge", 10_000, None, None, None).full_rate is None
    assert numbers_for("knowledge", 100, 3, 512, 5).epochs > numbers_for("knowledge", 100_000, 3, 512, 5).epochs


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data/raw").mkdir(parents=True)
    texts = [json.dumps({"split": "heldout", "text": f"Adam lives in a town, {i}."}) for i in range(10)]
    (tmp_path / "data/raw/text.jsonl").write_text("\n".join(texts))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, records: list[dict[str, Any]]) -> str:
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".parquet":
        pd.DataFrame(records).to_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(records[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(records)
    return str(path)


def test_a_model_that_cannot_do_it_is_found_before_anything_is_written(
    project: Path, base: Base, tmp_path: Path
) -> None:
    folder = tmp_path / "two-way"
    shutil.copytree(base.folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "is_causal": False}))
    with pytest.raises(UserError, match="LlamaForCausalLM is not causal"):
        new(write(project / "mine.jsonl", repeated(fact)), str(folder))
    assert not Path("presets/mine.yaml").exists()


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet"])
def test_the_preset_is_good_whatever_the_file(
    ending: str, project: Path, base: Base, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(project / f"my files/Zor: colours.{ending}", repeated(fact))
    path = new(data, str(base.folder))
    assert path == Path("presets/Zor-colours.yaml")
    params = check_params(path)
    raw = read_yaml(path)
    assert raw["source"]["data"] == f"my files/Zor: colours.{ending}"
    assert (project / raw["source"]["data"] / raw["source"]["files"]["train"]).is_file()
    assert raw["source"]["columns"]["fact"] == "thing"
    assert raw["source"]["held_out"] == {"validation": 0.05, "test": 0.1}
    assert raw["base"]["path"] == str(base.folder)
    assert list(params.runs) == ["lora", "full"]
    shown = capsys.readouterr().out
    assert "make validate PRESET=Zor-colours\n  make run PRESET=Zor-colours\n" in shown
    assert "subject, fact" in shown


def test_labels_are_named_from_the_whole_file(project: Path, encoder: Base) -> None:
    rows = sorted(repeated(lambda i: {"text": f"a small film {i}", "label": ["no: 1", "yes"][i % 2]}, 2400), key=str)
    rows = sorted(rows, key=lambda row: str(row["label"]))
    path = new(write(project / "mine.jsonl", rows), str(encoder.folder))
    raw = read_yaml(path)
    assert raw["task"] == {"kind": "classification", "labels": ["no: 1", "yes"]}
    assert raw["evaluate"]["metrics"][0] == "accuracy"
    assert "(2,400 rows)" in path.read_text()


@pytest.mark.parametrize("labels", [["no: 1", "yes"], [], None], ids=["labels", "numbers", "facts"])
def test_a_run_that_begins_at_words_waits_in_a_comment(
    labels: list[str] | None, project: Path, encoder: Base, base: Base
) -> None:
    on, rows = (base, repeated(fact)) if labels is None else (encoder, [])
    if labels is not None:
        rows = repeated(lambda i: {"text": f"a film {i}", "label": labels[i % 2] if labels else i / 10}, 200)
    path = new(write(project / "mine.jsonl", rows), str(on.folder))
    assert "words" not in read_yaml(path)["runs"]
    path.write_text(path.read_text().replace("\n  # words: ", "\n  words: "))
    run = check_params(path).runs["words"]
    assert run.method == "sk_tuning"
    text = {"labels": "Classify the text as no: 1 or yes, text: ", "facts": "Answer: "}
    kind = "facts" if labels is None else "labels" if labels else "numbers"
    assert run.options == {"text": text.get(kind, "Give the number for the text: ")}
    assert run.preserve is not None and run.preserve.anchor is None  # it changes no weight that could be held
    assert run.preserve.compared == ["self" if kind == "facts" else "text"]


def test_the_comment_of_a_run_stands_at_it(project: Path, base: Base, encoder: Base) -> None:
    labels = repeated(lambda i: {"text": f"a film {i}", "label": ["no", "yes"][i % 2]}, 200)
    pages = {"kasa": "kasa", "words": "sk-tuning", "woven": "imsm"}
    for name, on, rows in (("facts", base, repeated(fact)), ("films", encoder, labels)):
        lines = new(write(project / f"{name}.jsonl", rows), str(on.folder)).read_text().splitlines()
        runs = {line.split()[1].rstrip(":"): line for line in lines if line.startswith("  # ") and "method: " in line}
        assert list(runs) == (list(pages) if name == "facts" else ["kasa", "words"])
        for run, line in runs.items():
            assert [page for page in pages.values() if f"docs/guide/{page}.md" in line] == [pages[run]]


def test_a_divergence_is_measured_of_models_that_write(project: Path, base: Base, encoder: Base) -> None:
    labels = repeated(lambda i: {"text": f"a film {i}", "label": ["no", "yes"][i % 2]}, 200)
    for name, on, rows in (("facts", base, repeated(fact)), ("films", encoder, labels)):
        path = new(write(project / f"{name}.jsonl", rows), str(on.folder))
        assert ("kl_to_base" in check_params(path).evaluate.metrics) == (name == "facts")


def test_a_run_by_kasa_waits_in_a_comment(project: Path, base: Base) -> None:
    path = new(write(project / "mine.jsonl", repeated(fact)), str(base.folder))
    assert "kasa" not in read_yaml(path)["runs"]
    path.write_text(path.read_text().replace("\n  # kasa: ", "\n  kasa: "))
    params = check_params(path)
    assert params.runs["kasa"].method == "kasa"
    assert params.runs["kasa"].options == params.runs["lora"].options


def test_a_run_by_imsm_waits_in_a_comment_where_answers_are_learned(project: Path, encoder: Base, base: Base) -> None:
    path = new(write(project / "mine.jsonl", repeated(fact)), str(base.folder))
    assert "woven" not in read_yaml(path)["runs"]
    path.write_text(path.read_text().replace("\n  # woven: ", "\n  woven: "))
    run = check_params(path).runs["woven"]
    assert run.method == "imsm" and run.inner is not None
    assert (run.inner.method, run.inner.options) == ("lora", check_params(path).runs["lora"].options)
    rows = repeated(lambda i: {"text": f"a film {i}", "label": ["no", "yes"][i % 2]}, 200)
    assert "method: imsm" not in new(write(project / "films.jsonl", rows), str(encoder.folder)).read_text()


def test_numbered_labels_and_an_id_that_comes_again(project: Path, encoder: Base) -> None:
    rows = repeated(lambda i: {"id": i % 1500, "text": f"a film {i}", "label": i % 2}, 2000)
    path = new(write(project / "mine.jsonl", rows), str(encoder.folder))
    raw = read_yaml(path)
    assert raw["task"]["labels"] == ["0", "1"]
    assert raw["source"]["columns"]["id"] is None
    assert "'id' comes twice further down" in path.read_text()


def test_more_rejected_rows_are_allowed_only_when_told(project: Path, base: Base) -> None:
    rows = repeated(lambda i: {"prompt": f"Town {i} is in", "answer": f"land {i}" if i % 10 else ""})
    data = write(project / "mine.jsonl", rows)
    for sure in (False, True):
        with pytest.raises(UserError) as caught:
            new(data, str(base.folder), sure=sure)
        assert str(caught.value).endswith(
            "mine.jsonl: no preset is written\n  10.0% of the first rows or general texts are rejected (6: train: the "
            "target is empty), and `prepare` stops at 1.0%; if that is meant, allow more: REJECTED=0.16"
        )
    assert not list(Path("presets").glob("*"))
    path = new(data, str(base.folder), rejected=0.16)
    assert read_yaml(path)["prepare"]["max_rejected"] == 0.16
    assert "10.0% of the first rows or general texts are rejected (6: train" in path.read_text()


def test_empty_texts_are_no_reason_to_allow_more(project: Path, base: Base) -> None:
    write(project / "text.jsonl", [{"text": "Once upon a time." if i % 4 else ""} for i in range(40)])
    data = write(project / "mine.jsonl", repeated(fact))
    with pytest.raises(UserError, match=r"25.0% of the first rows or general texts are rejected, and .* REJECTED=0.39"):
        new(data, str(base.folder), general=project / "text.jsonl")


def test_a_preset_is_not_overwritten_unless_asked(project: Path, base: Base) -> None:
    data = write(project / "mine.jsonl", repeated(fact))
    new(data, str(base.folder))
    with pytest.raises(UserError, match=r"presets/mine.yaml: there is one already; give another NAME=..., or FORCE=1"):
        new(data, str(base.folder))
    new(data, str(base.folder), force=True)
    with pytest.raises(UserError, match=r"NAME: got 'a/b'; allowed: letters, digits, _ and -, e.g. 'a-b'"):
        new(data, str(base.folder), name="a/b")


def test_the_text_s_column_is_found(project: Path, base: Base) -> None:
    write(project / "text.csv", [{"n": "1", "story": "Once upon a time."}])
    path = new(write(project / "mine.jsonl", repeated(fact)), str(base.folder), general=project / "text.csv")
    assert read_yaml(path)["source"]["text_column"] == "story"
    write(project / "numbers.csv", [{"n": "1"}])
    with pytest.raises(UserError, match=r"numbers.csv: no column of texts; it has n"):
        text_column(project / "numbers.csv")


def test_a_model_of_the_hub_becomes_an_entry(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError("no network here")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    data = write(project / "mine.jsonl", repeated(fact))
    raw = read_yaml(new(data, f"owner/Some.Model@{HASH}"))
    assert raw["hub"] == {"Some-Model": {"kind": "model", "repo": "owner/Some.Model", "revision": HASH}}
    assert raw["base"]["path"] == "data/hub/Some-Model"
    assert list(raw["runs"]) == ["lora"]
    with pytest.raises(UserError, match=r"owner/model: the hub cannot be read .*; say which: owner/model@<40 hex>"):
        new(data, "owner/model", name="other")


def test_the_newest_commit_of_a_model_is_pinned(project: Path, base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.hf_api import ModelInfo

    siblings = [{"rfilename": "model.safetensors"}]
    info = ModelInfo(id="o/m", sha=HASH, siblings=siblings, safetensors={"parameters": {"F32": 7}, "total": 7})
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: info)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(base.folder / "config.json"))
    model = look_at_model("o/m", project)
    assert model.hub == {"m": {"kind": "model", "repo": "o/m", "revision": HASH}}
    assert (model.generates, model.num_parameters, model.card["context"]) == (True, 7, base.context)


def test_a_data_set_of_the_hub_is_looked_at_by_streaming(tmp_path: Path) -> None:
    write(tmp_path / "set/train.jsonl", SHAPES["glue"][0])
    write(tmp_path / "set/validation.jsonl", SHAPES["glue"][0][:9])
    data = look_at_hub(Repository(str(tmp_path / "set"), None, None), "set")
    assert data.records == SHAPES["glue"][0]
    assert data.files == {"train": "train.jsonl", "test": "validation.jsonl"}
    assert data.folder == "data/hub/set"
    assert data.hub["set"]["splits"] == ["train", "validation"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("nothing.jsonl", r"DATA: nothing.jsonl: no such file; allowed: a file ending in .jsonl"),
        ("owner/set", r"DATA: owner/set: no such file, and as a data set .* whole hash .*: owner/set@<40 hex>"),
        ("mine.xls", r"mine.xls: got a file ending in '.xls'; .* converts it; allowed: .jsonl"),
        ("broken.jsonl", r"broken.jsonl: line 2: not JSON"),
        ("late.jsonl", r"late.jsonl: line 1501: not JSON"),
        (
            "plain.jsonl",
            r"plain.jsonl: no task fits its columns\n  text: text, e.g. a 0\nsay which columns are what",
        ),
        ("same.jsonl", r"same.jsonl: column 'label' has only \['1'\]; a classification needs two labels"),
        ("chats.jsonl", r"chats.jsonl: line 1: the base's tokenizer has no chat template; take a chat model"),
    ],
)
def test_data_that_cannot_be_taken(data: str, message: str, project: Path, base: Base) -> None:
    lines = [json.dumps(fact(i)) for i in range(1500)]
    Path("mine.xls").write_text("x")
    Path("broken.jsonl").write_text("\n".join([lines[0], "{", ""]))
    Path("late.jsonl").write_text("\n".join([*lines, "{"]))
    write(project / "plain.jsonl", repeated(lambda i: {"text": f"a {i}"}))
    write(project / "same.jsonl", repeated(lambda i: {"text": f"a {i}", "label": 1}))
    write(project / "chats.jsonl", SHAPES["messages"][0])
    with pytest.raises(UserError, match=message):
        new(data, str(base.folder))
    assert not list(Path("presets").glob("*"))


def test_the_mapping_by_hand_is_explained_by_files_that_exist() -> None:
    root = Path(__file__).parents[3]
    for path in ("presets/pararel.yaml", "presets/minilm.yaml", "docs/guide/own-data.md"):
        assert path in BY_HAND
        assert (root / path).is_file()


def test_models_that_cannot_be_taken(project: Path, base: Base, encoder: Base) -> None:
    data = write(project / "mine.jsonl", repeated(fact))
    with pytest.raises(UserError, match=r"MODEL: not given; a task of knowledge needs one: a folder with a language"):
        new(data, None)
    with pytest.raises(UserError, match=r"\(Bert.*\) writes no text, and the columns are for knowledge .* causal"):
        new(write(project / "other.jsonl", SHAPES["completion"][0]), str(encoder.folder))
    with pytest.raises(UserError, match=r"MODEL: no/such/folder: no such folder; allowed: a folder in transformers"):
        new(data, "no/such/folder")
    with pytest.raises(UserError, match=r"the Python package no_such is not installed"):
        new(data, "PACKAGE/no_such/model")
    pickled = project / "pickled"
    shutil.copytree(base.folder, pickled, ignore=shutil.ignore_patterns("*.safetensors"))
    (pickled / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(UserError, match=r"only pickled weights \(pytorch_model.bin\), which can run code"):
        new(data, "pickled")
    (pickled / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"an adapter, not a model"):
        new(data, "pickled")


def test_without_a_model_labels_get_the_packaged_encoder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import cli.new

    data = write(project / "mine.jsonl", SHAPES["glue"][0])
    monkeypatch.setattr(cli.new, "packaged_encoder", lambda: None)
    with pytest.raises(UserError, match=r"a task of classification needs one: .* make extra NAME=minilm"):
        new(data, None)


# As public data sets name their columns; what stands in the cells is made up.
PUBLIC: dict[str, tuple[list[dict[str, Any]], str, dict[str, Any]]] = {
    "MRPC, as published": (
        repeated(lambda i: {"Quality": str(i % 2), "#1 ID": i, "#2 ID": 90 + i, "#1 String": f"The train {i} left.",
                            "#2 String": f"Train {i} is gone."}),
        "classification",
        {"id": None, "text": "#1 String", "text_pair": "#2 String", "label": "Quality"},
    ),
    "STS-B": (
        repeated(lambda i: {"sentence1": f"a man {i} sat", "sentence2": f"a man sits {i}", "label": i / 12, "idx": i}),
        "regression",
        {"id": "idx", "text": "sentence1", "text_pair": "sentence2", "label": "label"},
    ),
    "Banking77": (
        repeated(lambda i: {"text": f"where is card {i}", "label": i % 7}),
        "classification",
        {"id": None, "text": "text", "text_pair": None, "label": "label"},
    ),
    "WebQuestions": (
        repeated(lambda i: {"url": f"http://x/{i}", "question": f"who made {i}?", "answers": [f"a {i}", f"b {i}"]}),
        "knowledge",
        {**NO_FACTS, "prompt": "question", "target": "answers"},
    ),
    "PopQA": (
        repeated(lambda i: {"id": i, "subj": f"Zor {i}", "prop": "occupation", "obj": f"smith {i}", "obj_id": i + 5,
                            "s_aliases": "[]", "o_aliases": '["x"]', "question": f"What is Zor {i}'s occupation?",
                            "possible_answers": f'["smith {i}", "forger {i}"]'}),
        "knowledge",
        {**NO_FACTS, "id": "id", "relation": "prop", "subject": "subj", "prompt": "question",
         "target": "possible_answers[]"},
    ),
    "GSM8K": (
        repeated(lambda i: {"question": f"{i} eggs and 2: how many?", "answer": f"{i}+2={i + 2}\n#### {i + 2}"}),
        "knowledge",
        {**NO_FACTS, "prompt": "question", "target": "answer"},
    ),
    "E2E": (
        repeated(lambda i: {"meaning_representation": f"name[A{i // 5}]", "human_reference": f"A{i // 5} is {i}."}),
        "knowledge",
        {**NO_FACTS, "prompt": "meaning_representation", "target": "human_reference"},
    ),
    "LIMA": (
        repeated(lambda i: {"conversations": [f"How {i}?", f"So {i}."], "source": "x"}),
        "knowledge",
        {**NO_FACTS, "messages": "conversations"},
    ),
    "a chat written as text": (
        repeated(lambda i: {"chat": json.dumps([{"role": "user", "content": f"{i}"}])}),
        "knowledge",
        {**NO_FACTS, "messages": "chat"},
    ),
    "ShareGPT": (
        repeated(lambda i: {"conversations": [{"from": "human", "value": f"hi {i}"}, {"from": "gpt", "value": "ho"}]}),
        "knowledge",
        {**NO_FACTS, "messages": "conversations"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLIC)
def test_columns_of_public_data_sets(name: str) -> None:
    records, task, columns = PUBLIC[name]
    guess = propose(look(records), generates=True)
    assert guess is not None
    assert (guess.task, guess.columns, guess.doubts) == (task, columns, [])


def test_two_columns_of_labels_are_for_the_user_to_choose() -> None:
    """TREC has a coarse and a fine label."""
    columns = look(repeated(lambda i: {"text": f"What is {i}?", "coarse_label": i % 6, "fine_label": i % 12}))
    assert propose(columns, generates=True) is None
    guess = propose(columns, generates=True, overrides=Overrides(label="fine_label"))
    assert guess is not None
    assert guess.columns == {"id": None, "text": "text", "text_pair": None, "label": "fine_label"}
    assert guess.doubts == []


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("sentence1", "sentence2"), ("sentence_a", "sentence_b"), ("question1", "question2"),
        ("Question 1", "Question 2"),
        ("s1", "s2"), ("text_a", "text_b"), ("#1 String", "#2 String"), ("first text", "second text"),
        ("premise", "hypothesis"), ("query", "passage"), ("question", "context"), ("claim", "evidence"),
        ("string.1", "string.2"), ("left_sentence", "right_sentence"), ("Text A", "Text B"),
    ],
)  # fmt: skip
def test_pairs_go_by_many_names(one: str, two: str) -> None:
    rows = repeated(lambda i: {"pair id": i, two: f"the other text {i}", one: f"this text {i}", "label": i % 2})
    guess = propose(look(rows), generates=True)
    assert guess is not None
    assert (guess.columns["text"], guess.columns["text_pair"], guess.doubts) == (one, two, [])


def test_lists_and_texts_are_told_apart() -> None:
    cells: dict[str, list[Any]] = {
        "list": [["a", "b"], ["c"]], "written list": ['["a", "b"]', "['c', 'd']"], "text": ['["a"]', "[not a list"],
        "list ": ["a", ["b", "c"]], "nested": [[["a"]], []], "chat": [[{"role": "user", "content": "x"}], []],
    }  # fmt: skip
    columns = look([{kind: values[i] for kind, values in cells.items()} for i in (0, 1)])
    assert [column.kind for column in columns] == [kind.strip() for kind in cells]


def test_what_the_user_says_is_taken() -> None:
    columns = look(repeated(lambda i: {"a": f"what {i}", "b": f"more {i}", "c": f"so {i}", "d": i % 2, "f": i // 2}))

    def columns_of(**said: Any) -> dict[str, Any]:
        guess = propose(columns, generates=True, overrides=Overrides(**said))
        assert guess is not None
        assert guess.doubts == []
        return guess.columns

    assert columns_of(prompt="a", target="c") == {**NO_FACTS, "prompt": "a", "target": "c"}
    assert columns_of(prompt="{a}: {b} ", target="{c}!", fact="f") == {
        **NO_FACTS, "fact": "f", "prompt": "{a}: {b} ", "target": "{c}!",
    }  # fmt: skip
    labelled = {"id": None, "text": "b", "text_pair": "a", "label": "d"}
    assert columns_of(label="d", text="b", pair="a") == labelled
    guessed = propose(columns, generates=True)
    assert guessed is not None
    assert len(guessed.doubts) == 2


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (Overrides(prompt="questio"), r"PROMPT=questio: x has no column 'questio'; .*; did you mean 'question'\?"),
        (Overrides(prompt="{question} {no}"), r"PROMPT=\{question\} \{no\}: x has no column 'no'"),
        (Overrides(text="{a"), r"TEXT=\{a: .*allowed: a column, or columns in braces"),
        (Overrides(prompt="question", label="answer"), r"PROMPT=, LABEL=: of different kinds of rows"),
    ],
)
def test_what_the_user_cannot_say(said: Overrides, message: str) -> None:
    with pytest.raises(UserError, match=message):
        said.check(look(repeated(fact)), "x")


def test_no_preset_is_written_for_a_mapping_that_is_not_sure(project: Path, base: Base) -> None:
    rows = repeated(lambda i: {"text": f"a b c {i}", "title": f"the one {i}", "label": ("x", "y")[i % 2]})
    data = write(project / "mine.jsonl", rows)
    with pytest.raises(UserError) as caught:
        new(data, str(base.folder))
    assert str(caught.value).splitlines()[1:] == [
        "  not sure: the text is 'text'; 'title' would be text too and is left out",
        "say what is right; as proposed it is: LABEL=label TEXT=text TASK=classification",
        "or take the proposal as it is: SURE=1",
    ]
    assert not list(Path("presets").glob("*"))
    assert read_yaml(new(data, str(base.folder), sure=True))["source"]["columns"]["text"] == "text"
    path = new(
        data, str(base.folder), Overrides(label="label", text="{title}: {text}", task="classification"), force=True
    )
    assert read_yaml(path)["source"]["columns"]["text"] == "{title}: {text}"


def test_text_is_a_column_or_a_file(project: Path, base: Base) -> None:
    write(project / "other.jsonl", [{"story": "It rained all day."}])
    rows = repeated(lambda i: {"review": f"this film {i}", "other.jsonl": f"that one {i}", "label": ("x", "y")[i % 2]})
    data = write(project / "mine.jsonl", rows)
    raw = read_yaml(
        new(data, str(base.folder), Overrides(label="label", text="other.jsonl"), general=Path("other.jsonl"))
    )
    assert (raw["source"]["columns"]["text"], raw["source"]["text"]) == ("other.jsonl", "other.jsonl")
    facts = write(project / "facts.jsonl", repeated(fact))
    raw = read_yaml(new(facts, str(base.folder), Overrides(text="other.jsonl")))
    assert (raw["source"]["text"], raw["source"]["text_column"]) == ("other.jsonl", "story")
    with pytest.raises(UserError, match=r"TEXT=no: no column of .*facts.jsonl, which has key, thing, .* no file"):
        new(facts, str(base.folder), Overrides(text="no"), name="third")


@pytest.mark.parametrize(
    ("each", "told", "several"), [(3, None, True), (3, False, False), (1, None, False), (1, True, True)]
)
def test_several_answers_of_a_prompt_are_seen(
    each: int, told: bool | None, several: bool, project: Path, base: Base
) -> None:
    data = write(project / "mine.jsonl", repeated(lambda i: {"prompt": f"Town {i // each} is", "target": f"so {i}"}))
    raw = read_yaml(new(data, str(base.folder), Overrides(several=told)))
    assert raw["source"]["several_answers"] is several


def test_a_few_prompts_of_several_answers_are_a_doubt(project: Path, base: Base) -> None:
    rows = repeated(lambda i: {"prompt": f"Town {max(i, 9)} is", "target": f"so {i}"})
    data = write(project / "mine.jsonl", rows)
    with pytest.raises(UserError, match=r"17% of the rows share their prompt .* contradictions, .*; else SEVERAL=1"):
        new(data, str(base.folder))
    assert read_yaml(new(data, str(base.folder), Overrides(several=False)))["source"]["several_answers"] is False


def test_known_rows_bring_their_metrics(project: Path, base: Base) -> None:
    known_rows = [{**fact(i), "question": f"Old {i} is"} for i in range(4)]
    data = write(project / "mine/rows.jsonl", repeated(fact))
    raw = read_yaml(new(data, str(base.folder), known=write(project / "mine/known.jsonl", known_rows)))
    assert raw["source"]["data"] == "mine"
    assert raw["source"]["files"] == {"train": "rows.jsonl", "validation": None, "test": None, "known": "known.jsonl"}
    assert {"known", "forgotten", "locality", "gained"} <= set(raw["evaluate"]["metrics"])
    assert "known" not in read_yaml(new(data, str(base.folder), name="without"))["evaluate"]["metrics"]
    other = write(project / "elsewhere/known.jsonl", known_rows)
    with pytest.raises(UserError, match=r"KNOWN: .*elsewhere/known.jsonl: must be in the folder of .*, and that no"):
        new(data, str(base.folder), known=other, name="third")


def test_what_is_kept_goes_by_what_the_user_has(project: Path, base: Base, tmp_path: Path) -> None:
    data = write(project / "mine/rows.jsonl", repeated(fact))
    known = write(project / "mine/known.jsonl", [{**fact(i), "question": f"Old {i} is"} for i in range(4)])
    write(project / "text.jsonl", [{"text": f"It rained on day {i}."} for i in range(20)])
    text = Path("text.jsonl")
    shutil.copytree(base.folder, tmp_path / "bare")  # without a start token
    for name in ("config.json", "tokenizer_config.json", "special_tokens_map.json"):
        if (file := tmp_path / "bare" / name).is_file():
            said = json.loads(file.read_text())
            file.write_text(json.dumps({k: v for k, v in said.items() if k not in ("bos_token", "bos_token_id")}))

    def proposed(folder: Path = base.folder, **given: Any) -> tuple[Any, Any, Any, str]:
        path = new(data, str(folder), force=True, **given)
        raw = read_yaml(path)
        check_params(path)
        (kept,) = {json.dumps(run["preserve"]) for run in raw["runs"].values()}
        rehearsed = raw["rehearse"] and (raw["rehearse"]["prompt"], raw["rehearse"]["max_tokens"])
        return raw["prepare"]["replay"], rehearsed, json.loads(kept), path.read_text()

    by_self, by_text = {"anchor": {"form": "ewc", "weight": 0.1}}, {"distill": {"on": "text"}}
    replays = {"replay": {"from": "known"}, "distill": {"on": ["replay", "self"]}}
    assert proposed()[:3] == ({"known": 0, "text": 0}, ("start", 48), by_self)
    assert proposed(general=text)[:3] == ({"known": 0, "text": 0}, ("start", 48), by_self)
    assert proposed(known=known)[:3] == ({"known": 0.5, "text": 0}, ("start", 48), replays)
    assert proposed(known=known, general=text)[:3] == ({"known": 0.5, "text": 0}, ("start", 48), replays)
    assert proposed(tmp_path / "bare", general=text)[:3] == ({"known": 0, "text": 0.5}, None, by_text)
    assert proposed(tmp_path / "bare")[:3] == ({"known": 0, "text": 0.5}, None, by_text)
    assert proposed(tmp_path / "bare", known=known)[:3] == ({"known": 0.5, "text": 0}, ("few_shot", 48), replays)
    why = "shares that may be replayed; without known rows, the weights that matter for what the base writes itself"
    assert why in proposed()[3]
    costs = (("6 to 27", "23 to 51"), ("5 to 15", "50 to 53"), ("1.5", "13"))
    texts = (proposed()[3], proposed(known=known)[3], proposed(tmp_path / "bare")[3])
    for (learned, forgotten), written in zip(costs, texts, strict=True):
        assert f"   # plain LoRA learned {learned} points more and forgot {forgotten} more in docs/" in written


def test_a_classifier_is_held_to_general_text(project: Path, encoder: Base) -> None:
    rows = repeated(lambda i: {"review": f"this film {i}", "label": ("x", "y")[i % 2]})
    raw = read_yaml(new(write(project / "mine.jsonl", rows), str(encoder.folder)))
    assert (raw["prepare"]["replay"], raw["rehearse"]) == ({"known": 0, "text": 0.5}, None)
    assert raw["runs"]["lora"]["preserve"] == {"distill": {"on": "text"}}


def test_long_answers_bring_metrics_that_can_tell_them(project: Path, base: Base) -> None:
    rows = repeated(lambda i: {"prompt": f"Say {i}", "target": f"{i} qz vx jk wq " * 3})
    raw = read_yaml(new(write(project / "mine.jsonl", rows), str(base.folder)))
    assert {"token_f1", "contains", "answer_loss"} <= set(raw["evaluate"]["metrics"])


def knowedit(i: int) -> dict[str, Any]:
    locality = {
        "Relation_Specificity": [{"prompt": f"Mip{i} is made of", "ground_truth": [["tin"]]}],
        "Forgetfulness": [],
    }
    return {"subject": f"Zor{i}", "prompt": f"Zor{i} has the colour", "target_new": "red", "ground_truth": ["grey"],
            "rephrase_prompt": f"Look at Zor{i}: it is", "locality": locality,
            "portability": {"Reasoning": [{"prompt": "p", "ground_truth": [["g"]]}]}}  # fmt: skip


def counterfact(i: int) -> dict[str, Any]:
    rewrite = {"prompt": "{} has the colour", "relation_id": "P1", "target_new": {"str": "red", "id": "Q1"},
               "target_true": {"str": "grey", "id": "Q2"}, "subject": f"Zor{i}"}  # fmt: skip
    return {
        "case_id": i,
        "pararel_idx": 2 * i,
        "requested_rewrite": rewrite,
        "paraphrase_prompts": [f"Look: Zor{i} is"],
        "neighborhood_prompts": [f"Mip{i} has the colour"],
        "attribute_prompts": [],
        "generation_prompts": ["x"],
    }


CASES: dict[str, tuple[Callable[[int], dict[str, Any]], dict[str, Any]]] = {
    "flat": (
        lambda i: {"case": i, "prompt": f"Zor{i} is", "target_new": "red", "subject": f"Zor{i}", "ground_truth": "grey",
                   "rephrase_prompt": f"If you look at Zor{i}, you see", "locality_prompt": f"Mip{i} is",
                   "locality_ground_truth": "white"},
        {"id": "case", "relation": None, "subject": "subject", "prompt": "prompt", "target": "target_new",
         "old": "ground_truth", "paraphrases": "rephrase_prompt", "locality_prompt": "locality_prompt",
         "locality_target": "locality_ground_truth"},
    ),
    "CounterFact": (
        counterfact,
        {"id": "case_id", "relation": "requested_rewrite.relation_id", "subject": "requested_rewrite.subject",
         "prompt": "requested_rewrite.prompt", "target": "requested_rewrite.target_new.str",
         "old": "requested_rewrite.target_true.str", "paraphrases": "paraphrase_prompts",
         "locality_prompt": "neighborhood_prompts", "locality_target": "requested_rewrite.target_true.str"},
    ),
    "zsRE": (
        lambda i: {"subject": f"Zor{i}", "src": f"What colour is Zor{i}?", "pred": "x", "rephrase": f"Zor{i} is what?",
                   "alt": "red", "answers": ["grey"], "loc": f"nq question: what is Mip{i}?", "loc_ans": "white"},
        {"id": None, "relation": None, "subject": "subject", "prompt": "src", "target": "alt", "old": "answers",
         "paraphrases": "rephrase", "locality_prompt": "loc", "locality_target": "loc_ans"},
    ),
    "KnowEdit": (
        knowedit,
        {"id": None, "relation": None, "subject": "subject", "prompt": "prompt", "target": "target_new",
         "old": "ground_truth", "paraphrases": "rephrase_prompt",
         "locality_prompt": ["locality.Relation_Specificity.prompt"],
         "locality_target": ["locality.Relation_Specificity.ground_truth"]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_cases_are_recognised_and_prepared(name: str, project: Path, base: Base) -> None:
    make, columns = CASES[name]
    raw = read_yaml(new(write(project / "mine.jsonl", repeated(make)), str(base.folder)))
    assert raw["source"]["columns"] == columns
    assert raw["source"]["held_out"] == {"validation": 0, "test": 0}
    assert {"efficacy", "paraphrase_efficacy", "known", "forgotten", "locality"} <= set(raw["evaluate"]["metrics"])
