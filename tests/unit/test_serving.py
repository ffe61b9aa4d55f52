"""Every kind of artefact on every task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.checkpoints.cards import MERGED
from knowtune.common.errors import UserError
from knowtune.common.files import read_json, write_json
from knowtune.merging.fold import load_seed, merge_seed
from knowtune.merging.mix import mix
from knowtune.merging.mixtures.interpolate import Interpolate
from knowtune.methods.base import Method
from knowtune.methods.lora import Lora
from knowtune.methods.peft import Peft
from knowtune.serving import load
from knowtune.tasks.regression import Regression
from knowtune.training.run import Job, train_seed
from tests.unit.helpers import REVIEWS, fact_rows, recipe, review_rows

TASKS = ("knowledge", "classification", "regression")
KINDS = ("adapter", "composed", "merged", "mixed")
FOLDS = Lora(rank=4, alpha=16.0)
STAYS = Peft(type="prompt_tuning", num_virtual_tokens=2)  # type: ignore[call-arg]


@dataclass(frozen=True)
class Trained:
    """What was trained on one task: a base, its rows, a folder for each kind of artefact."""

    base: Base
    rows: pd.DataFrame
    folders: dict[str, Path]
    attached: dict[str, torch.nn.Module]


METHODS: dict[str, tuple[str, Method]] = {"merged": ("lora", FOLDS), "composed": ("peft", STAYS)}


def train_kinds(base: Base, rows: pd.DataFrame, folder: Path) -> Trained:
    folders, attached = {}, {}
    for kind, (name, method) in METHODS.items():
        options = recipe(learning_rate=0.01 if name == "lora" else 0.1, epochs=8, batch_size=8)
        job = Job("x", name, method, options, seed=0, rows=rows, validation=rows.head(0), mask=None)
        torch.manual_seed(0)
        train_seed(job, base, folder / name, folder / f"{name}-work")
        folders["adapter" if kind == "merged" else kind] = folder / name
        folders[kind] = folder / kind / "seed-0"
        merge_seed(method, folder / name, base, folders[kind], rows.head(4), 4)
        attached[kind] = load_seed(method, folder / name, base)
    folders["mixed"] = folder / "whole" / "seed-0"
    mix(Interpolate(alpha=1.0), [folders["merged"]], [1.0], base, folders["mixed"], 0)
    attached["adapter"] = attached["mixed"] = attached["merged"]
    return Trained(base, rows, folders, attached)


@pytest.fixture(scope="module")
def trained(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    made: dict[str, Trained] = {}

    def get(task: str) -> Trained:
        if task not in made:
            on, rows = base, fact_rows().head(8)
            if task != "knowledge":
                on, rows = replace(base, task=REVIEWS), review_rows()
            if task == "regression":
                on, rows = replace(base, task=Regression()), rows.assign(target=[str(i % 4) for i in range(24)])
            made[task] = train_kinds(on, rows, tmp_path_factory.mktemp(task))
        return made[task]

    return get


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", TASKS)
def test_every_kind_of_artefact_answers_what_was_trained(
    task: str, kind: str, trained: Callable[[str], Trained]
) -> None:
    made = trained(task)
    base, rows = made.base, made.rows
    expected = base.task.evaluator.answer(made.attached[kind], base.tokenizer(), rows, 16, 16, "")
    served = load(made.folders[kind], base.folder)
    assert type(served.task) is type(base.task) and served.task == base.task
    predicted = served.predict(rows.assign(target="", note=range(len(rows))))
    if task == "regression":
        assert all(type(value) is float for value in predicted)
        assert predicted == pytest.approx([float(answer) for answer in expected], abs=1e-4)
    else:
        assert predicted == expected
    assert len(set(predicted)) > 1
    assert served.predict(rows.head(0)) == [] == served.answer([])
    asked = rows["prompt"].str.strip().tolist()
    answers = served.answer(asked, max_new_tokens=4)
    assert served.predict(pd.DataFrame({"question": asked}, index=range(5, 5 + len(asked))), max_new_tokens=4) == (
        [float(answer) for answer in answers] if task == "regression" else answers
    )


@pytest.mark.parametrize("task", TASKS)
def test_a_merged_checkpoint_stands_alone_an_adapter_does_not(task: str, trained: Callable[[str], Trained]) -> None:
    made = trained(task)
    for kind in ("merged", "mixed"):
        alone, beside = load(made.folders[kind]), load(made.folders[kind], made.base)
        assert alone.predict(made.rows) == beside.predict(made.rows)
        assert alone.tokenizer.model_max_length == beside.tokenizer.model_max_length
    for kind in ("adapter", "composed"):
        with pytest.raises(UserError, match=rf"{made.folders[kind].name}: an adapter needs the model"):
            load(made.folders[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_another_base_is_refused(kind: str, trained: Callable[[str], Trained]) -> None:
    made = trained("knowledge")
    with pytest.raises(UserError, match="made on a base with digest"):
        load(made.folders[kind], made.folders["merged"])  # has no card: it is described first


def test_the_mapping_of_the_training_applies(trained: Callable[[str], Trained]) -> None:
    made = trained("knowledge")
    columns = {"prompt": "{who} lives in ", "target": "town"}
    served = load(made.folders["merged"], columns=columns)
    assert served.cells("Ada")["prompt"] == "Ada lives in "
    prompts = pd.DataFrame({"prompt": ["Ada lives in "], "layout": [served.cells("Ada")["layout"]]})
    assert served.answer(["Ada"]) == served.predict(prompts) == served.answer(['{"who": "Ada"}'])
    assert served.cells("Ada", raw=True)["prompt"] == "Ada"


def test_a_pair_of_texts(trained: Callable[[str], Trained]) -> None:
    served = load(trained("classification").folders["merged"])
    pair = served.cells("the film was good ||| and it is long .")
    assert (pair["prompt"], pair["text_pair"]) == ("the film was good", "and it is long .")
    table = pd.DataFrame({"question": ["the film was good", "bad"], "text_pair": ["and it is long .", None]})
    assert served.predict(table) == served.answer(["the film was good ||| and it is long .", "bad"])
    whole = served.cells("good ||| or bad", pair="and it is long .")  # two texts as such: the first is not split
    assert (whole["prompt"], whole["text_pair"]) == ("good ||| or bad", "and it is long .")


def test_a_table_may_have_gaps_and_columns_of_its_own(trained: Callable[[str], Trained]) -> None:
    served = load(trained("knowledge").folders["merged"])
    table = pd.DataFrame({"question": ["Ada lives in", None], "prompt": [None, "Ada lives in"], "score": [1.0, None]})
    assert served.predict(table)[0] == served.answer(["Ada lives in"])[0]
    assert len(served.predict(table)) == 2


def test_what_is_refused(trained: Callable[[str], Trained], tmp_path: Path) -> None:
    made = trained("knowledge")
    with pytest.raises(UserError, match=r"no merged\.json and no knowtune\.json; give the folder of one seed"):
        load(made.base.folder)
    write_json(tmp_path / MERGED, {key: value for key, value in read_json(made.folders["merged"] / MERGED).items()
                                   if key != "task"})  # fmt: skip
    with pytest.raises(UserError, match=r"of another shape, see task.*merge"):
        load(tmp_path)
    served = load(made.folders["merged"])
    with pytest.raises(UserError, match="got the columns text; allowed: question, or prompt"):
        served.predict(pd.DataFrame({"text": ["Ada"]}))
    with pytest.raises(UserError, match="Q: got nothing"):
        served.answer(["Ada lives in", " "])
    with pytest.raises(UserError, match="got one text, 'Ada lives in'; allowed: a list of questions"):
        served.answer("Ada lives in")
    for row, reason in (
        ({"question": ""}, "got neither a question nor a prompt"),
        ({"question": "Ada lives in", "text_pair": "Bo"}, "text_pair: got 'Bo'; allowed: nothing"),
    ):
        with pytest.raises(UserError, match=f"predict: row 0: {reason}"):
            served.predict(pd.DataFrame([row]))  # fmt: skip
