from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from knowtune.errors import UserError
from stages.core.params import load_params, read_yaml

ROOT = Path(__file__).resolve().parents[3]
DEFAULT: dict[str, Any] = read_yaml(ROOT / "params.yaml")


def message(tmp_path: Path, edit: Callable[[dict[str, Any]], object], *, deep: bool = False) -> list[str]:
    """Edit the default params, load them, and return the lines of the error."""
    params = copy.deepcopy(DEFAULT)
    edit(params)
    path = tmp_path / "params.yaml"
    YAML(typ="safe").dump(params, path)
    with pytest.raises(UserError) as error:
        load_params(path, deep=deep)
    return [line.strip() for line in str(error.value).splitlines()]


@pytest.mark.parametrize(
    "file", ["params.yaml", *(f"presets/{path.name}" for path in sorted((ROOT / "presets").glob("*.yaml")))]
)
def test_committed_params_are_good(file: str) -> None:
    params = load_params(ROOT / file, deep=True)
    assert params.runs


CASES: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (
        lambda p: p["training"].update(learning_rat=0.1),
        "training.learning_rat: got an unknown key; allowed: accumulation, batch_size, checkpoint_steps, epochs, "
        "keep_best, learning_rate, log_steps, max_grad_norm, schedule, warmup_steps, weight_decay; did you mean "
        "'learning_rate'?",
    ),
    (lambda p: p.update(thread=2), "; did you mean 'threads'?"),
    (lambda p: p.update(threads="two"), "threads: got 'two'; allowed: a valid integer"),
    (lambda p: p.update(threads=True), "threads: got True; allowed: a valid integer"),
    (lambda p: p.update(threads=0), "threads: got 0; allowed: greater than or equal to 1"),
    (lambda p: p.pop("merge"), "merge: got nothing; allowed: a value; this key is required"),
    (lambda p: p["compute"].update(device="gpu"), "compute.device: got 'gpu'; allowed: 'auto', 'cpu' or 'cuda'"),
    (
        lambda p: p["source"].update(format="flies"),
        "source.format: got 'flies'; allowed: 'embedded', 'files'; did you mean 'files'?",
    ),
    (
        lambda p: p["base"]["build"].update(hiden_size=3),
        "base.build.hiden_size: got an unknown key; allowed: batch_size",
    ),
    (lambda p: p["base"]["build"].update(hiden_size=3), "; did you mean 'hidden_size'?"),
    (
        lambda p: p["prepare"]["damage"].update(wrong=1.5),
        "prepare.damage.wrong: got 1.5; allowed: less than or equal to 1",
    ),
    (
        lambda p: p["runs"]["lora"].update(selection="claen"),
        "runs.lora.selection: got 'claen'; allowed: all, clean; did you mean 'clean'?",
    ),
    (
        lambda p: p["selections"]["all"].update(filter="everythin"),
        "selections.all.filter: got 'everythin'; allowed: clean, everything; did you mean 'everything'?",
    ),
    (
        lambda p: p["mixtures"]["soup"].update({"from": ["lora", "ful"]}),
        "mixtures.soup.from[1]: got 'ful'; allowed: delora, full, lora, raw; did you mean 'full'?",
    ),
    (lambda p: p["runs"]["lora"].update(method="lorra"), "runs.lora.method: got 'lorra'; allowed: full, lora, peft"),
    (
        lambda p: p["runs"]["lora"]["options"].update(rnak=3),
        "runs.lora.options.rnak: got an unknown key; allowed: alpha, dropout, rank, target_modules; did you mean 'rank",
    ),
    (
        lambda p: p["runs"]["lora"]["options"].update(rank=0),
        "runs.lora.options.rank: got 0; allowed: greater than or equal to 1",
    ),
    (lambda p: p["runs"]["lora"]["options"].pop("rank"), "runs.lora.options.rank: got nothing; allowed: a value"),
    (lambda p: p["runs"]["lora"].update(type="vera"), "runs.lora.type: got 'vera'; allowed: only with `method: peft`"),
    (lambda p: p["runs"]["lora"].update(sede=1), "runs.lora.sede: got an unknown key"),
    (lambda p: p["runs"]["lora"].update(seeds=[1, 1]), "runs.lora.seeds: got [1, 1]; allowed: each seed once"),
    (
        lambda p: p["runs"]["lora"].update(seeds=[]),
        "runs.lora.seeds: got []; allowed: List should have at least 1 item",
    ),
    (
        lambda p: p["runs"]["full"].update(training={"epochs": -1}),
        "runs.full.training.epochs: got -1; allowed: greater than 0",
    ),
    (lambda p: p["runs"]["full"].update(training={"epoch": 1}), "did you mean 'epochs'?"),
    (lambda p: p["runs"]["full"].update(seeds=[0]), "mixtures.soup.from: got runs with [1, 3] seeds"),
    (lambda p: p["mixtures"]["soup"]["options"].update(density=2), "mixtures.soup.options.density: got 2"),
    (
        lambda p: p["mixtures"]["soup"].update(weights=[1.0]),
        "mixtures.soup.weights: got 1 numbers; allowed: 2, one per run",
    ),
    (lambda p: p["mixtures"].update(lora=p["mixtures"]["soup"]), "mixtures.lora: got a name that a run has too"),
    (lambda p: p["filters"]["clean"].update(strategy=["claen"]), "filters.clean.strategy[0]: got 'claen'"),
    (
        lambda p: p["filters"]["clean"].update(options={"clean": {"majority": 0.1}}),
        "filters.clean.options.clean.majority: got 0.1; allowed: greater than 0.5",
    ),
    (
        lambda p: p["filters"]["clean"].update(options={"nearest": {}}),
        "filters.clean.options.nearest: got an unknown key; allowed: options of a strategy named in `strategy`",
    ),
    (
        lambda p: p["selections"]["all"].update(strategy="random", options={"budget": 0.01}),
        "runs.raw.selection: got 'all', which makes a parameter mask; allowed: a selection without a parameter budget",
    ),
    (
        lambda p: p["evaluate"].update(metrics=["generalization"]),
        "evaluate.metrics[0]: got 'generalization'; allowed: reliability, generalisation",
    ),
    (
        lambda p: (
            p["runs"]["delora"].update(type="prompt_tuning", options={"num_virtual_tokens": 2})
            or p["mixtures"]["soup"].update({"from": ["lora", "delora"]})
        ),
        "mixtures.soup.from[1]: got 'delora'; allowed: runs whose method folds into plain weights",
    ),
    (lambda p: p["runs"].update({"a.b": p["runs"]["lora"]}), "runs.a.b: got 'a.b'; allowed: a name of letters, digits"),
    (lambda p: p["runs"].update(base=p["runs"]["lora"]), "runs.base: got the name of the pristine base's line"),
    (lambda p: p["runs"].update(lora="x"), "runs.lora: got 'x'; allowed: a mapping of keys"),
    (lambda p: p["runs"]["delora"].pop("type"), "runs.delora.type: got nothing; allowed: the name of a PEFT method"),
    (
        lambda p: p["runs"]["delora"]["options"].update(type="vera"),
        "runs.delora.options.type: got 'vera'; allowed: runs.",
    ),
    (
        lambda p: p["source"]["wordings"].update(validation=0) or p["training"].update(keep_best=True),
        "training.keep_best: got true; allowed: false, for `source` gives no validation rows",
    ),
    (
        lambda p: p["source"]["wordings"].update(validation=0) or p["merge"].update(keep="best"),
        "merge.keep: got 'best'; allowed: all, for `source` gives no validation rows",
    ),
    (lambda p: p["compute"].update(quantize="4bit"), "runs.full.method: got 'full' on a quantised base"),
    (lambda p: p["base"]["build"].update(num_heads=7), "num_heads whose double divides hidden_size (128), not 7"),
    (
        lambda p: p["selections"]["all"].update(strategy="random", options={"samples": 9}),
        "runs.raw.train_on: got 'all', so that what 'all' chooses has no effect; allowed: chosen",
    ),
]


@pytest.mark.parametrize(("edit", "expected"), CASES, ids=[str(i) for i in range(len(CASES))])
def test_a_fault_names_key_got_allowed_nearest(
    edit: Callable[[dict[str, Any]], object], expected: str, tmp_path: Path
) -> None:
    lines = message(tmp_path, edit)
    assert any(expected in line for line in lines), lines


PEFT_CASES: list[tuple[dict[str, Any], str]] = [
    ({"type": "dellora"}, "runs.delora.type: got 'dellora'; allowed: adaption_prompt, "),
    ({"type": "dellora"}, "; did you mean 'delora'?"),
    (
        {"type": "xlora"},
        "runs.delora.type: got 'xlora': it needs trained LoRA adapters to mix, and PEFT saves it empty",
    ),
    ({"options": {"rr": 3}}, "runs.delora.options.rr: got an unknown key; allowed: the options of PEFT's delora: "),
    ({"options": {"r": "many"}}, "runs.delora.options.r: got 'many'; allowed: int"),
    (
        {"type": "lora", "options": {"init_lora_weights": "eva"}},
        "runs.delora.options.init_lora_weights: got 'eva': it needs data before training",
    ),
]


@pytest.mark.parametrize(("change", "expected"), PEFT_CASES)
def test_peft_options_are_checked_against_peft(change: dict[str, Any], expected: str, tmp_path: Path) -> None:
    lines = message(tmp_path, lambda p: p["runs"]["delora"].update(change), deep=True)
    assert any(expected in line for line in lines), lines


def test_all_faults_stand_in_one_message(tmp_path: Path) -> None:
    def edit(params: dict[str, Any]) -> None:
        params["threads"] = -1
        params["runs"]["lora"]["selection"] = "nothing"
        params["runs"]["full"]["options"] = {"rank": 3}
        params["mixtures"]["soup"]["strategy"] = "tie"

    lines = message(tmp_path, edit)
    assert lines[0].endswith("params.yaml: 4 problems")
    assert [line.partition(":")[0] for line in lines[1:]] == [
        "mixtures.soup.strategy",
        "runs.full.options.rank",
        "runs.lora.selection",
        "threads",
    ]


def test_a_key_given_twice_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("threads: 1\nthreads: 2\n")
    with pytest.raises(UserError, match="not readable as YAML"):
        load_params(path)


def test_numbers_are_read_as_dvc_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("a: 1e-3\nb: yes\n")
    assert read_yaml(path) == {"a": 0.001, "b": "yes"}


def test_no_such_file() -> None:
    with pytest.raises(UserError, match=r"missing\.yaml: no such file"):
        load_params(Path("missing.yaml"))
