from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from knowtune.common.errors import UserError
from stages.core.params import load_params, read_yaml
from stages.core.schema import FileSource, Params
from tests.unit.helpers import PRESETS

ROOT = Path(__file__).resolve().parents[4]
DEFAULT: dict[str, Any] = read_yaml(ROOT / "tests/data/params.yaml")
CONTEXT: int = DEFAULT["base"]["build"]["context"]


def message(tmp_path: Path, edit: Callable[[dict[str, Any]], object], *, deep: bool = False) -> list[str]:
    """Edit the default params, load them, and return the lines of the error."""
    params = copy.deepcopy(DEFAULT)
    edit(params)
    path = tmp_path / "params.yaml"
    YAML(typ="safe").dump(params, path)
    with pytest.raises(UserError) as error:
        load_params(path, deep=deep)
    return [line.strip() for line in str(error.value).splitlines()]


@pytest.mark.parametrize("file", ["params.yaml", *(f"presets/{name}.yaml" for name in PRESETS)])
def test_committed_params_are_good(file: str) -> None:
    params = load_params(ROOT / file, deep=True)
    assert params.runs


def test_several_answers_need_not_be_said() -> None:
    raw = read_yaml(ROOT / "presets/pararel.yaml")
    del raw["source"]["several_answers"]
    source = Params.model_validate(raw).source
    assert isinstance(source, FileSource) and source.several_answers is False


LORA: dict[str, Any] = {
    "method": "lora",
    "options": {"rank": 2, "alpha": 4},
    "warmup_steps": 5,
    "learning_rate": 0.01,
    "batch_size": 4,
}
CASES: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (
        lambda p: p["training"].update(learning_rat=0.1),
        "training.learning_rat: got an unknown key; allowed: batch_size, epochs, gradient_accumulation_steps, "
        "learning_rate, length_window, load_best_model_at_end, logging_steps, lr_scheduler_type, max_grad_norm, "
        "max_validation, save_steps, warmup_steps, weight_decay; did you mean 'learning_rate'?",
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
        lambda p: p["prepare"]["label_noise"].update(wrong=1.5),
        "prepare.label_noise.wrong: got 1.5; allowed: less than or equal to 1",
    ),
    (
        lambda p: p["runs"]["lora"].update(selection="claen"),
        "runs.lora.selection: got 'claen'; allowed: all, clean, fish, ird; did you mean 'clean'?",
    ),
    (
        lambda p: p["selections"]["all"].update(filter="everythin"),
        "selections.all.filter: got 'everythin'; allowed: band, calm, clean, everything, near, spread; did you mean "
        "'everything'?",
    ),
    (
        lambda p: p["mixtures"]["soup"].update({"from": ["lora", "ful"]}),
        "mixtures.soup.from[1]: got 'ful'; allowed: beacons, delora, fish, full, ird, lora, raw; did you mean 'full'?",
    ),
    (
        lambda p: p["runs"]["lora"].update(method="lorra"),
        "runs.lora.method: got 'lorra'; allowed: fish, full, imsm, kasa, lora, peft, sk_tuning",
    ),
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
    (
        lambda p: p["runs"]["lora"].update(reweight={"form": "liner"}),
        "runs.lora.reweight.form: got 'liner'; allowed: 'linear', 'exponential', 'flow' or 'stm'",
    ),
    (
        lambda p: p["runs"]["lora"].update(reweight={"alhpa": 1}),
        "runs.lora.reweight.alhpa: got an unknown key; allowed: alpha, batch_size, form, granularity, highest, lowest, "
        "refresh_steps, threshold; did you mean 'alpha'?",
    ),
    (
        lambda p: p["runs"]["lora"].update(reweight={"highest": 0.5}),
        "runs.lora.reweight.highest: got 0.5; allowed: greater than or equal to 1",
    ),
    (
        lambda p: p["runs"]["lora"].update(reweight={"refresh_steps": 0}),
        "runs.lora.reweight.refresh_steps: got 0; allowed: greater than or equal to 1",
    ),
    (lambda p: p["runs"]["lora"].update(reweight=0.5), "runs.lora.reweight: got 0.5; allowed: a mapping of keys"),
    (
        lambda p: p["runs"]["lora"].update(reweight={}) or p.update(task={"kind": "regression"}),
        "runs.lora.reweight: got weights by semantic distance, which scores do not have; allowed: null or "
        "form: flow, where task.kind is 'regression'",
    ),
    (
        lambda p: p["runs"]["lora"].update(reweight={"form": "flow", "alpha": 0.5}),
        "runs.lora.reweight: got {'alpha': 0.5, 'form': 'flow'}; allowed: form flow without alpha: it weighs by the "
        "pristine base's loss",
    ),
    (
        lambda p: p["runs"]["lora"].update(reweight={"threshold": 3.0}),
        "runs.lora.reweight: got {'threshold': 3.0}; allowed: threshold only with form: stm",
    ),
    (
        lambda p: p["runs"]["lora"].update(reweight={"form": "stm"}) or p.update(task={"kind": "regression"}),
        "runs.lora.reweight.form: got 'stm', which masks tokens, and a regression learns one label or score of a row",
    ),
    (
        lambda p: (
            p["runs"]["lora"].update(reweight={"granularity": "token"})
            or p.update(task={"kind": "classification", "labels": ["a", "b"]})
        ),
        "runs.lora.reweight.granularity: got 'token'; allowed: example; a classification learns one label of a row, "
        "not tokens",
    ),
    (
        lambda p: p["runs"]["lora"].update(phases=[["a"]]),
        "runs.lora.phases: got [['a']]; allowed: a list of at least 2",
    ),
    (
        lambda p: p["runs"]["lora"].update(phases=[["a"], []]),
        "runs.lora.phases.1: got []; allowed: a list of at least 1",
    ),
    (
        lambda p: p["runs"]["lora"].update(phases=[["a", "a"], ["b"]]),
        "runs.lora.phases.0: got ['a', 'a']; allowed: each",
    ),
    (
        lambda p: p["runs"]["lora"].update(phases=[["a"], ["b"]], reweight={}),
        "runs.lora.reweight: got weights in a training of several phases, each of which knows its own rows alone",
    ),
    (
        lambda p: p["runs"]["lora"].update(phases=[["a"], ["b"]]) or p.update(task={"kind": "regression"}),
        "runs.lora.phases: got relations, which the rows of a regression do not have; allowed: null",
    ),
    (
        lambda p: p["runs"]["lora"].update(preserve={"anchor": {}}),
        "runs.lora.preserve.anchor.weight: got nothing; allowed: a value; this key is required",
    ),
    (
        lambda p: p["runs"]["lora"].update(preserve={"anchor": {"weight": -1.0}}),
        "runs.lora.preserve.anchor.weight: got -1.0; allowed: greater than or equal to 0",
    ),
    (
        lambda p: p["runs"]["lora"].update(preserve={"anchor": {"weight": 1.0, "form": "ewc", "of": "parameters"}}),
        "allowed: form: ewc with of: change; at an adapter's start half of its parameters have no Fisher information",
    ),
    (
        lambda p: p["runs"]["lora"].update(preserve={"anchor": {"weight": 1.0, "samples": 9}}),
        "allowed: from and samples only with form: ewc",
    ),
    (
        lambda p: p["runs"]["lora"].update(preserve={"anchor": {"weight": 1.0, "decoupled": True}}),
        "runs.lora.preserve.anchor.decoupled: got true, but lora computes the change; no step of the optimiser moves "
        "it; allowed: false, or of: parameters",
    ),
    (
        lambda p: (
            p["runs"]["fish"].update(preserve={"anchor": {"weight": 1.0, "decoupled": True}})
            or p["selections"]["fish"].update(
                adapter={
                    "method": "lora",
                    "options": {"rank": 2, "alpha": 4},
                    "warmup_steps": 1,
                    "batch_size": 1,
                    "learning_rate": 0.1,
                }
            )
        ),
        "runs.fish.preserve.anchor.decoupled: got true, but lora computes the change; no step of the optimiser moves ",
    ),
    (
        lambda p: p["runs"]["delora"].update(type="ia3", options={}, preserve={"anchor": {"weight": 1.0}}),
        "runs.delora.preserve.anchor.of: got 'change', and ia3 with these options gives no matrix by which it changes "
        "a weight; allowed: parameters",
    ),
    (
        lambda p: p["runs"]["delora"].update(
            type="ia3", options={}, preserve={"anchor": {"weight": 1.0, "form": "ewc"}}
        ),
        "runs.delora.preserve.anchor.form: got 'ewc', and ia3 with these options gives no matrix by which it changes a "
        "weight; allowed: form: l2 with of: parameters; or distill",
    ),
    (
        lambda p: (
            p["runs"]["lora"].update(preserve={"anchor": {"weight": 1.0, "form": "ewc"}})
            or p["compute"].update(quantize="4bit")
        ),
        "runs.lora.preserve.anchor.form: got 'ewc' on a quantised base, whose weights have no gradient; allowed: l2",
    ),
    (
        lambda p: (
            p["runs"]["lora"].update(preserve={"anchor": {"weight": 1.0, "form": "ewc", "from": "text"}})
            or p.update(task={"kind": "classification", "labels": ["a", "b"]})
        ),
        "runs.lora.preserve.anchor.from: got 'text', which has no labels for a classification; allowed: known",
    ),
    (lambda p: p["runs"]["lora"].update(seeds=[1, 1]), "runs.lora.seeds: got [1, 1]; allowed: each seed once"),
    (
        lambda p: p["runs"]["lora"].update(seeds=[]),
        "runs.lora.seeds: got []; allowed: a list of at least 1",
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
    (
        lambda p: p["mixtures"]["soup"].update({"from": ["lora"]}),
        "mixtures.soup.from: got 1 run; allowed: 2 or more; interpolate and lines take a single one too, and any "
        "strategy with `seeds: all`",
    ),
    (
        lambda p: (
            p["mixtures"]["soup"].update({"from": ["lora"], "seeds": "all"}) or p["runs"]["lora"].update(seeds=[0])
        ),
        "mixtures.soup.seeds: got 'all' of 1 seed; allowed: runs with 2 or more in all",
    ),
    (
        lambda p: p["mixtures"]["soup"].update({"from": ["lora"], "seeds": "all"}) or p["merge"].update(keep="best"),
        "mixtures.soup.seeds: got 'all' of 1 seed; allowed: merge.keep: all, for best leaves one seed of each run",
    ),
    (lambda p: p["mixtures"]["soup"].update(seeds="both"), "mixtures.soup.seeds: got 'both'; allowed: 'each' or 'all'"),
    (
        lambda p: (
            p["mixtures"].update(wise={"from": ["lora"], "strategy": "interpolate", "options": {"alpha": [0.5, 1.0]}})
            or p["prepare"].pop("replay", None)
        ),
        "mixtures.wise.options.alpha: got a list, of which one alpha is chosen on rows; allowed: one number, for there "
        "are no rows that may be replayed: prepare.replay.known, or source.files.replay",
    ),
    (lambda p: p["mixtures"].update(lora=p["mixtures"]["soup"]), "mixtures.lora: got a name that a run has too"),
    (lambda p: p["filters"]["clean"].update(strategy=["claen"]), "filters.clean.strategy[0]: got 'claen'"),
    (
        lambda p: p["filters"]["clean"].update(options={"clean": {"majority": 0.1}}),
        "filters.clean.options.clean.majority: got 0.1; allowed: greater than 0.5",
    ),
    (
        lambda p: p["filters"]["clean"].update(strategy=["nearest"], options={"nearest": {"keep": 0.0}}),
        "filters.clean.options.nearest.keep: got 0.0; allowed: greater than 0",
    ),
    (
        lambda p: p["filters"]["clean"].update(strategy=["mean_variance"], options={"mean_variance": {"keep": 1.5}}),
        "filters.clean.options.mean_variance.keep: got 1.5; allowed: less than or equal to 1",
    ),
    (
        lambda p: p["filters"]["clean"].update(strategy=["band"], options={"band": {"lo": 0.9, "hi": 0.1}}),
        "filters.clean.options.band: got {'hi': 0.1, 'lo': 0.9}; allowed: lo <= hi",
    ),
    (
        lambda p: p.update(task={"kind": "regression"}),
        "filters.near.strategy[1]: got 'nearest', which needs semantic distances, and a score has none",
    ),
    (
        lambda p: p["filters"]["near"].update(strategy=["clean", "nearest", "nearest"]),
        "filters.near.strategy: got nearest twice; allowed: each strategy once",
    ),
    (
        lambda p: p["runs"]["lora"].update(train_on="chosen"),
        "runs.lora.train_on: got 'chosen', but 'clean' leaves no row out; allowed: all, or a selection with `samples`",
    ),
    (
        lambda p: p["selections"]["fish"]["options"].update(draws=3),
        "allowed: draws only with labels: expected",
    ),
    (
        lambda p: p["selections"]["fish"]["options"].update(pattern=[]),
        "selections.fish.options.pattern",
    ),
    (
        lambda p: p["semantics"].update(representation="sentence_encoder"),
        "semantics.path: got 'data/base'; allowed: the encoder's folder, for sentence_encoder is no representation by "
        "the base; an entry of `hub` brings one",
    ),
    (
        lambda p: p["semantics"].update(path="models/encoder"),
        "semantics.path: got 'models/encoder'; allowed: data/base, for input_embedding reads the base",
    ),
    (
        lambda p: p["semantics"].update(representation="sentence_encoder", options={"path": "models/encoder"}),
        "semantics.options.path: got 'models/encoder'; allowed: `semantics.path`, which DVC watches",
    ),
    (
        lambda p: p["semantics"].update(representation="sentence_encoder", path="data/hub/mini"),
        "semantics.path: got 'data/hub/mini'; allowed: an entry of `hub`",
    ),
    (
        lambda p: p["answers"].update(sketch=None),
        "answers.sketch: got nothing, and filters.calm uses interference; allowed: dimensions, batch_size and seed of "
        "the gradients' sketches",
    ),
    (
        lambda p: p["filters"]["clean"].update(stratify="relation"),
        "filters.clean.stratify: got 'relation', which has no effect: no strategy here ranks rows; allowed: null, or "
        "with one of nearest, mean_variance, interference",
    ),
    (
        lambda p: p["filters"]["clean"].update(options={"nearest": {}}),
        "filters.clean.options.nearest: got an unknown key; allowed: options of a strategy named in `strategy`",
    ),
    (
        lambda p: p["runs"]["fish"].update(selection="clean"),
        "runs.fish.selection: got 'clean', which makes no parameter mask; fish trains one; allowed: a selection with a "
        "budget, or with `protect`",
    ),
    (
        lambda p: p["selections"]["fish"].update(adapter=LORA) or p["runs"]["fish"].update(method="full"),
        "runs.fish.method: got 'full' on 'fish', which hands on its own lora; allowed: fish, without options",
    ),
    (
        lambda p: p["selections"]["clean"].update(adapter=LORA),
        "selections.clean.adapter: got an adapter; allowed: a strategy with a budget or `protect`; only that "
        "chooses among an adapter's parameters",
    ),
    (
        lambda p: p["selections"]["fish"].update(adapter={**LORA, "method": "full", "options": {}}),
        "selections.fish.adapter.method: got 'full', which has no parameters of its own; allowed: an adapter, e.g. lo",
    ),
    (
        lambda p: p["selections"]["fish"].update(adapter={**LORA, "options": {"rnk": 2}}),
        "selections.fish.adapter.options.rnk: got an unknown key; allowed: alpha, dropout, rank, target_modules; did "
        "you mean 'rank'?",
    ),
    (
        lambda p: p["selections"]["fish"].update(adapter={k: v for k, v in LORA.items() if k != "warmup_steps"}),
        "selections.fish.adapter.warmup_steps: got nothing; allowed: a value; this key is required",
    ),
    (
        lambda p: p["selections"]["ird"]["options"].update(search=True),
        "selections.ird.trial: got nothing; allowed: steps, learning_rate and batch_size, for `search` trains pairs",
    ),
    (
        lambda p: p["selections"]["fish"].update(trial={"steps": 3, "learning_rate": 0.1, "batch_size": 4}),
        "selections.fish.trial: got a trial; allowed: none; only `search: true` of strategy ird trains pairs",
    ),
    (
        lambda p: p["selections"]["fish"]["options"].update(budget=0.1),
        "allowed: exactly one of budget and num_parameters",
    ),
    (
        lambda p: p["selections"]["fish"]["options"].update(budget=1.5),
        "selections.fish.options.budget: got 1.5; allowed: less than or equal to 1",
    ),
    (
        lambda p: (
            p["selections"]["all"].update(strategy="random", options={"budget": 0.01})
            or p["runs"]["full"].update(selection="all")
        ),
        "runs.full.selection: got 'all', which makes a parameter mask; allowed: a selection without budget and "
        "`protect`, or a method that can use a mask: lora, fish",
    ),
    (
        lambda p: (
            p["selections"]["all"].update(options={"protect": {"from": "self"}, "granularity": "parameter"})
            or p["runs"]["lora"].update(selection="all")
        ),
        "runs.lora.selection: got 'all', which has equal shares of every parameter, and so changes no rank of lora; "
        "allowed: granularity: global in the selection, or a pattern; or method: fish",
    ),
    (
        lambda p: p["selections"]["fish"].update(adapter=LORA) or p["runs"]["lora"].update(selection="fish"),
        "runs.lora.method: got 'lora' on 'fish', which hands on its own lora; allowed: fish, without options",
    ),
    (
        lambda p: p["selections"]["fish"]["options"].update(protect={"from": ["self"], "share": -0.1}),
        "selections.fish.options.protect.share: got -0.1; allowed: greater than 0",
    ),
    (
        lambda p: p["selections"]["fish"]["options"].update(protect={"from": ["prompts"]}),
        "selections.fish.options.protect.from.0: got 'prompts'; allowed: 'known', 'text' or 'self'",
    ),
    (
        lambda p: p["selections"]["all"].update(options={"protect": {"from": ["self"], "form": "contrast"}}),
        "protect.form: contrast ranks by F_new / F_kept, and this strategy takes no F_new",
    ),
    (
        lambda p: p["selections"]["fish"].update(
            options={"budget": 0.6, "protect": {"from": ["self"]}, "samples": 8},
        ),
        "selections.fish.options.budget: got 0.6; allowed: up to 0.5, for `protect` leaves no more",
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
    (
        lambda p: p["runs"]["delora"].pop("type"),
        "runs.delora.type: got nothing; allowed: PEFT's name of the method in lower case, e.g. vera",
    ),
    (
        lambda p: p["runs"]["delora"]["options"].update(type="vera"),
        "runs.delora.options.type: got 'vera'; allowed: runs.",
    ),
    (
        lambda p: p["source"]["templates"].update(validation=0) or p["training"].update(load_best_model_at_end=True),
        "training.load_best_model_at_end: got true; allowed: false, for `source` gives no validation rows",
    ),
    (
        lambda p: p["source"]["templates"].update(validation=0) or p["merge"].update(keep="best"),
        "merge.keep: got 'best'; allowed: all, for `source` gives no validation rows",
    ),
    (lambda p: p["compute"].update(quantize="4bit"), "runs.full.method: got 'full' on a quantised base"),
    (lambda p: p["base"]["build"].update(num_heads=7), "num_heads whose double divides hidden_size (128), not 7"),
    (
        lambda p: p["selections"]["all"].update(strategy="random", options={"samples": 9}),
        "runs.raw.train_on: got 'all', so that what 'all' chooses has no effect; allowed: chosen",
    ),
]

SHA = "0123456789abcdef0123456789abcdef01234567"
PROMPTS = {"id": None, "fact": None, "relation": None, "subject": None, "template": None, "prompt": "q", "target": "a"}
OF_CASES = {
    "id": "case_id", "relation": None, "subject": "edit.subject", "prompt": "edit.prompt", "target": "edit.new.str",
    "old": "edit.true.str", "paraphrases": ["a", "b"], "locality_prompt": ["c", "d"], "locality_target": "edit.true",
}  # fmt: skip
LABELS = {"id": None, "text": "t", "text_pair": None, "label": "y"}


def of_files(params: dict[str, Any], columns: dict[str, Any] | None = None, **changes: Any) -> None:
    """Read files of one's own instead of the authored facts; they have no rows that the base knows."""
    params["evaluate"]["metrics"] = ["reliability", "generalisation", "text_drift", "pushed_away"]
    params["prepare"]["replay"] = {"known": 0.0, "text": 0.5}
    params["source"] = {
        "format": "files", "data": "data/own", "text": "data/own/text.jsonl", "text_column": "text",
        "files": {"train": "train.csv", "validation": None, "test": None, "known": None},
        "held_out": {"validation": 0.1, "test": 0.1}, "several_answers": False,
        "columns": {**(columns or PROMPTS)}, **changes,
    }  # fmt: skip


def classifies(params: dict[str, Any], **task: Any) -> None:
    """Turn the default params into those of a classification."""
    of_files(params, LABELS)
    params["task"] = {"kind": "classification", "labels": ["bad", "good"], **task}
    params["base"] = {"model": "folder", "path": "models/own"}
    params["evaluate"]["metrics"] = ["accuracy", "drift"]
    params["rehearse"] = None


def keeps(params: dict[str, Any], **preserve: Any) -> None:
    """Let one run keep what its base knows."""
    params["runs"]["lora"]["preserve"] = preserve


def of_cases(params: dict[str, Any], metrics: tuple[str, ...] = ("reliability", "forgotten"), **columns: Any) -> None:
    """Read whole cases."""
    of_files(params, {**OF_CASES, **columns}, held_out={"validation": 0, "test": 0})
    params["evaluate"]["metrics"] = list(metrics)


GOOD: dict[str, Callable[[dict[str, Any]], object]] = {
    "as much written as can be read": lambda p: of_files(p) or p["rehearse"].update(max_tokens=CONTEXT),
    "prompts": of_files,
    "templates": lambda p: of_files(p, {**PROMPTS, "prompt": "Q: {q}\nA: ", "target": "{a}."}),
    "chats": lambda p: of_files(p, {**{k: v for k, v in PROMPTS.items() if k not in "prompt target"}, "messages": "m"}),
    "cases": of_cases,
    "cases with a target for each locality": lambda p: of_cases(p, locality_target=["e", "f"]),
    "cases without locality": lambda p: of_cases(p, ("efficacy",), locality_prompt=None, locality_target=None),
    "labels": classifies,
    "what is kept": lambda p: (
        of_files(p)
        or keeps(p, replay={"from": "text"}, distill={"on": "replay"}, anchor={"weight": 1.0, "form": "ewc"})
    ),
    "rows and texts for replay": lambda p: (
        of_files(p, files={**dict.fromkeys(["validation", "test", "known"]), "train": "a.csv", "replay": ["b.csv"]},
                 replay_text="data/own/more.jsonl")
        or p["prepare"].update(replay={})
        or p["rehearse"].update(prompt="few_shot")
        or keeps(p, replay={"from": "known"}, distill={"on": "text"})
    ),
    "what a classifier keeps": lambda p: classifies(p) or keeps(p, distill={"on": "text"}),
    "what a trained head keeps": lambda p: (
        classifies(p) or keeps(p, distill={"on": "text", "match": "logits", "temperature": 2.0, "direction": "reverse"})
    ),
    "texts that a classifier replays without learning them": lambda p: (
        classifies(p) or keeps(p, replay={"from": "text", "weight": 0.0}, distill={"on": "replay"})
    ),
    "anchors": lambda p: (
        of_files(p)
        or p["runs"]["full"].update(preserve={"anchor": {"weight": 0.1, "decoupled": True}})
        or p["runs"]["delora"].update(preserve={"anchor": {"weight": 0.1, "of": "parameters", "decoupled": True}})
    ),
    "scores": lambda p: (
        classifies(p)
        or p["filters"].update({name: {"strategy": ["clean"]} for name in ("near", "band", "spread")})
        or p["runs"]["beacons"].update(reweight={"form": "flow"})
        or p.update(task={"kind": "regression"}) or p["evaluate"].update(metrics=["pearson", "spearman"])
    ),
    "hub": lambda p: (
        p.update(
            hub={
                "smol": {"kind": "model", "repo": "acme/smol", "revision": SHA},
                "mine": {"kind": "model", "repo": "./mine", "revision": None},
                "sst2": {
                    "kind": "dataset", "repo": "acme/sst2", "revision": SHA, "config": None, "splits": ["train"],
                    "streaming": False, "max_rows": None,
                },
            },
            base={"model": "folder", "path": "data/hub/smol"},
        )
        or of_files(p, data="data/hub/sst2")
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_what_can_be_said_about_ones_own_data(name: str, tmp_path: Path) -> None:
    params = copy.deepcopy(DEFAULT)
    GOOD[name](params)
    YAML(typ="safe").dump(params, tmp_path / "params.yaml")
    assert load_params(tmp_path / "params.yaml").source.format == "files"


def hub(**entry: Any) -> Callable[[dict[str, Any]], object]:
    return lambda p: p.update(hub={"smol": {"kind": "model", "repo": "acme/smol", "revision": SHA, **entry}})


TASK_CASES: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda p: of_cases(p, old=None, paraphrase="x"), "source.columns.paraphrase: got an unknown key"),
    (lambda p: of_cases(p, paraphrases=[]), "source.columns.paraphrases"),
    (lambda p: of_cases(p, paraphrases=["a", "{b"]), "source.columns.paraphrases: got '{b'"),
    (
        lambda p: of_cases(p, locality_target=None),
        "source.columns.locality_target: got 0 columns; allowed: 2, one for each of source.columns.locality_prompt",
    ),
    (lambda p: of_cases(p, locality_target=["a", "b", "c"]), "source.columns.locality_target: got 3 columns"),
    (lambda p: of_cases(p, locality_prompt=None), "source.columns.locality_target: got 1 columns; allowed: 0"),
    (
        lambda p: of_cases(p, locality_prompt=None, locality_target=None),
        "evaluate.metrics[1]: got 'forgotten', and `source` gives no known rows",
    ),
    (
        lambda p: of_cases(p) or p["source"]["files"].update(test="x.jsonl"),
        "source.files.test: got 'x.jsonl'; allowed: null, for a case says itself what is tested and what is known",
    ),
    (
        lambda p: of_cases(p) or p["source"]["held_out"].update(validation=0.1),
        "source.held_out.validation: got 0.1; allowed: 0, for a case says itself what is tested and what is known",
    ),
    (
        lambda p: p.update(rehearse=None) or keeps(p, distill={}),
        "runs.lora.preserve.distill.on: got 'self', which is empty; allowed: known or text; or give it something: "
        "rehearse",
    ),
    (
        lambda p: p.update(rehearse=None) or keeps(p, distill={"on": ["known", "self"]}),
        "runs.lora.preserve.distill.on: got 'self', which is empty; allowed: known or text",
    ),
    (
        lambda p: p["prepare"].pop("replay") and keeps(p, replay={}),
        "runs.lora.preserve.replay.from: got 'known', which is empty; allowed: self; or give it something: "
        "prepare.replay.known, or source.files.replay",
    ),
    (
        lambda p: p.pop("rehearse") and p["prepare"].pop("replay") and keeps(p, replay={"from": "text"}),
        "runs.lora.preserve.replay.from: got 'text', which is empty; allowed: a source that has something: "
        "prepare.replay.text, or source.replay_text",
    ),
    (
        lambda p: p.pop("rehearse") and keeps(p, anchor={"weight": 1.0, "form": "ewc"}),
        "runs.lora.preserve.anchor.from: got 'self', which is empty",
    ),
    (
        lambda p: p.pop("rehearse") and p["selections"]["fish"]["options"].update(protect={"from": ["known", "self"]}),
        "selections.fish.options.protect.from: got 'self', which is empty",
    ),
    (
        lambda p: classifies(p) or keeps(p, distill={"on": "self"}),
        "runs.lora.preserve.distill.on: got 'self', which only a model that writes has; allowed: known or text, where "
        "task.kind is 'classification'",
    ),
    (
        lambda p: classifies(p) or keeps(p, distill={"on": "prompts"}),
        "runs.lora.preserve.distill.on: got 'prompts', which only a model that writes has",
    ),
    (
        lambda p: classifies(p) or keeps(p, distill={"on": "text", "cache": "top_k"}),
        "runs.lora.preserve.distill.cache: got 'top_k', the likeliest tokens, where task.kind is 'classification'; "
        "allowed: none",
    ),
    (
        lambda p: keeps(p, distill={"match": "states"}),
        "runs.lora.preserve.distill.match: got 'states', of a model without a head; allowed: logits, or null",
    ),
    (
        lambda p: classifies(p) or p["prepare"]["replay"].update(text=0.5) or keeps(p, replay={"from": "text"}),
        "runs.lora.preserve.replay.from: got 'text', which has no labels for a classification; allowed: known",
    ),
    (
        lambda p: classifies(p) or p["prepare"]["replay"].update(known=0, text=0.5) or keeps(p, replay={}),
        "runs.lora.preserve.replay.from: got 'known', which is empty; allowed: a source that has something: "
        "prepare.replay.known, or source.files.replay",
    ),
    (
        lambda p: (
            classifies(p) or p["prepare"]["replay"].update(known=0, text=0.5) or keeps(p, distill={"on": "known"})
        ),
        "runs.lora.preserve.distill.on: got 'known', which is empty; allowed: text; or give it something: ",
    ),
    (
        lambda p: classifies(p) or keeps(p, anchor={"weight": 1.0, "form": "ewc"}),
        "runs.lora.preserve.anchor.from: got 'self', which only a model that writes has; allowed: known, where "
        "task.kind is 'classification'",
    ),
    (
        lambda p: classifies(p) or p["selections"]["fish"]["options"].update(protect={"from": ["known", "text"]}),
        "selections.fish.options.protect.from: got 'text', which has no labels for a classification; allowed: known",
    ),
    (
        lambda p: classifies(p) or keeps(p, distill={"on": "text", "temperature": 2.0}),
        "runs.lora.preserve.distill.temperature: got 2.0, where states are compared by a cosine; allowed: no "
        "temperature, or match: logits",
    ),
    (
        lambda p: classifies(p) or keeps(p, distill={"on": "text", "match": None, "direction": "reverse"}),
        "runs.lora.preserve.distill.direction: got 'reverse', where states are compared by a cosine; allowed: no "
        "direction, or match: logits",
    ),
    (
        lambda p: (
            classifies(p)
            or p.update(task={"kind": "regression"})
            or keeps(p, distill={"on": "text", "match": "logits", "temperature": 2.0})
        ),
        "runs.lora.preserve.distill.temperature: got 2.0, where scores are compared by their difference; allowed: no "
        "temperature",
    ),
    (
        lambda p: keeps(p, replay={}, distill={"on": "replay", "share": 3.0}),
        "allowed: distill.share not with on: replay alone, of which all rows are read; replay.share says how many",
    ),
    (
        lambda p: keeps(p, replay={"share": 0.0}, distill={"on": ["replay", "self"]}),
        "allowed: distill.on: replay needs replay.share above 0; or take known with a share of its own",
    ),
    (lambda p: keeps(p, replay={"from": "prompts"}), "runs.lora.preserve.replay.from: got 'prompts'; allowed: 'known'"),
    (
        lambda p: keeps(p, distill={"on": "slef"}),
        "runs.lora.preserve.distill.on.0: got 'slef'; allowed: 'self', 'known', 'text', 'prompts' or "
        "'replay'; did you mean 'self'?",
    ),
    (
        lambda p: keeps(p, distill={"on": []}),
        "runs.lora.preserve.distill.on: got []; allowed: a list of at",
    ),
    (lambda p: keeps(p, distill={"on": 3}), "runs.lora.preserve.distill.on.0: got 3; allowed: 'self', "),
    (
        lambda p: keeps(p, distill={"top_k": 8}),
        "runs.lora.preserve.distill: got {'top_k': 8}; allowed: top_k only with",
    ),
    (
        lambda p: keeps(p, distill={"on": ["self", "self"]}),
        "runs.lora.preserve.distill.on: got ['self', 'self']; allowed: each source once",
    ),
    (
        lambda p: keeps(p, anchor={"form": "ewc", "weight": 1.0, "from": ["self", "self"]}),
        "runs.lora.preserve.anchor.from: got ['self', 'self']; allowed: each source once",
    ),
    (
        lambda p: p["selections"]["fish"]["options"].update(protect={"from": ["self", "self"]}),
        "selections.fish.options.protect.from: got ['self', 'self']; allowed: each source once",
    ),
    (
        lambda p: p["selections"]["fish"]["options"].update(protect={"from": "self", "max_text_tokens": 9}),
        "allowed: max_text_tokens only with the source text",
    ),
    (
        lambda p: keeps(p, distill={}, max_text_tokens=9),
        "allowed: max_text_tokens only with the source text",
    ),
    (
        lambda p: keeps(p, distill={"match": "states", "temperature": 2.0}),
        "allowed: temperature and direction not with match: states, which compares by a cosine",
    ),
    (
        lambda p: keeps(p, distill={"temperature": 0.009}),
        "runs.lora.preserve.distill.temperature: got 0.009; allowed: greater than or equal to 0.01",
    ),
    (
        lambda p: p["rehearse"].update(max_tokens=CONTEXT + 1),
        f"rehearse.max_tokens: got {CONTEXT + 1}; allowed: up to {CONTEXT}, the context of base.build",
    ),
    (lambda p: p["rehearse"].update(shots=2), "allowed: shots only with prompt: few_shot"),
    (lambda p: keeps(p, distil={}), "runs.lora.preserve.distil: got an unknown key; allowed: anchor, distill"),
    (lambda p: keeps(p, replay={"share": -0.1}), "runs.lora.preserve.replay.share: got -0.1; allowed: greater than or"),
    (
        lambda p: keeps(p, distill={"weight": -1.0}),
        "runs.lora.preserve.distill.weight: got -1.0; allowed: greater than",
    ),
    (
        lambda p: classifies(p) or p.update(rehearse={"sequences": 8, "max_tokens": 8}),
        "rehearse: got sequences of a model that writes none; allowed: null, where task.kind is 'classification'",
    ),
    (
        lambda p: p["prepare"].pop("replay") and p["rehearse"].update(prompt="few_shot"),
        "rehearse.prompt: got 'few_shot', and no row may be replayed; allowed: start, or rows for the prompts: ",
    ),
    (
        lambda p: of_files(p) or p["prepare"]["replay"].update(known=0.5),
        "prepare.replay.known: got 0.5; allowed: 0, for `source` gives no known rows; see source.files.known",
    ),
    (lambda p: p["prepare"]["replay"].update(known=1.0), "prepare.replay.known: got 1.0; allowed: less than 1"),
    (lambda p: p["prepare"]["replay"].update(text=-0.5), "prepare.replay.text: got -0.5; allowed: greater than or"),
    (
        lambda p: p["source"].update(replay_text="README.md"),
        "source.replay_text: got 'README.md'; allowed: that of source.text, in which the base's own texts are marked",
    ),
    (
        lambda p: of_cases(p) or p["source"]["files"].update(replay="x.jsonl"),
        "source.files.replay: got 'x.jsonl'; allowed: null, for a case says itself what is tested and what is known",
    ),
    (
        lambda p: classifies(p) or p["source"].update(columns=OF_CASES),
        "for task.kind is 'classification'",
    ),
    (
        lambda p: of_files(p) or p["evaluate"].update(metrics=["reliability", "gained"]),
        "evaluate.metrics[1]: got 'gained', and `source` gives no known rows; allowed: a metric that reads none; or a "
        "file of facts that the base knows, at source.files.known",
    ),
    (
        lambda p: classifies(p) or p["runs"].update(majority=p["runs"]["lora"]),
        "runs.majority: got the name of the line of the most frequent label; allowed: another name",
    ),
    (
        lambda p: p["task"].update(kind="clasification"),
        "task.kind: got 'clasification'; allowed: knowledge, classification, regression; did you mean 'classification",
    ),
    (lambda p: p["task"].pop("kind"), "task.kind: got nothing; allowed: a value; this key is required"),
    (lambda p: p["task"].update(labels=["a", "b"]), "task.labels: got an unknown key"),
    (
        lambda p: classifies(p) or p["task"].pop("labels"),
        "task.labels: got nothing; allowed: a value; this key is required",
    ),
    (lambda p: classifies(p, labels=["a", "a"]), "task.labels: got ['a', 'a']; allowed: names that are all different"),
    (lambda p: classifies(p, labels=["a"]), "task.labels: got ['a']; allowed: a list of at least 2"),
    (lambda p: classifies(p, label=1), "task.label: got an unknown key; allowed: labels; did you mean 'labels'?"),
    (
        lambda p: classifies(p) or p.update(base=DEFAULT["base"]),
        "base.model: got 'embedded'; allowed: folder; the embedded base is no model for classification",
    ),
    (
        lambda p: classifies(p) or p.update(source=DEFAULT["source"]),
        "source.format: got 'embedded'; allowed: files; the authored facts are no rows for classification",
    ),
    (
        lambda p: classifies(p) or p["evaluate"].update(metrics=["accuracy", "forgotten"]),
        "evaluate.metrics[1]: got 'forgotten', which classification does not have; allowed: accuracy, f1, matthews, "
        "drift, similarity_order, pushed_away, pushed_by",
    ),
    (
        lambda p: (
            classifies(p) or p.update(task={"kind": "regression"}) or p["evaluate"].update(metrics=["pushed_away"])
        ),
        "evaluate.metrics[0]: got 'pushed_away', which regression does not have; allowed: pearson, spearman, drift, "
        "similarity_order",
    ),
    (
        lambda p: p["evaluate"].update(metrics=["accuracy"]),
        "evaluate.metrics[0]: got 'accuracy', which knowledge does not have; allowed: reliability, generalisation",
    ),
    (
        lambda p: classifies(p) or p["source"].update(columns=PROMPTS),
        "source.columns: got fact, id, prompt, relation, subject, target, template; allowed: text, text_pair, label, "
        "for task.kind is 'classification'",
    ),
    (
        lambda p: of_files(p, LABELS),
        "source.columns: got id, label, text, text_pair; allowed: prompt and target, messages, or the columns of "
        "a case, for task.kind is 'knowledge'",
    ),
    (lambda p: of_files(p, {**PROMPTS, "promt": "x"}), "source.columns.promt: got an unknown key"),
    (lambda p: of_files(p, {**PROMPTS, "promt": "x"}), "; did you mean 'prompt'?"),
    (
        lambda p: of_files(p, {**PROMPTS, "prompt": "Q: {q"}),
        "source.columns.prompt: got 'Q: {q' (expected '}' before end of string); allowed: a template with columns in",
    ),
    (
        lambda p: of_files(p, {**PROMPTS, "target": "{{a}}"}),
        "source.columns.target: got '{{a}}'; allowed: a template that names columns in braces",
    ),
    (lambda p: of_files(p, {**PROMPTS, "prompt": "{}"}), "source.columns.prompt: got '{}'; allowed: a template that"),
    (lambda p: of_files(p, files={"train": "a"}), "source.files.test: got nothing; allowed: a value"),
    (
        lambda p: of_files(p, held_out={"validation": 1.0, "test": 0}),
        "source.held_out.validation: got 1.0; allowed: less than 1",
    ),
    (
        lambda p: of_files(p, held_out={"validation": 0.5, "test": 0.5}),
        "source.held_out: got shares of 1 in all; allowed: less than 1, for some rows must train",
    ),
    (
        lambda p: of_files(p, held_out={"validation": 0, "test": 0}) or p["merge"].update(keep="best"),
        "merge.keep: got 'best'; allowed: all, for `source` gives no validation rows",
    ),
    (
        hub(revision=None),
        "hub.smol.revision: got null; allowed: the whole hash of a commit, 40 digits, so that the same files come",
    ),
    (hub(revision="main"), "hub.smol.revision: got 'main'"),
    (hub(repo="./smol"), f"hub.smol.revision: got {SHA!r}; allowed: null, for `repo` is a local copy"),
    (hub(kind="modle"), "hub.smol.kind: got 'modle'; allowed: 'model', 'dataset'; did you mean 'model'?"),
    (hub(split="train"), "hub.smol.split: got an unknown key"),
    (
        lambda p: hub()(p) or p.update(base={"model": "folder", "path": "data/hub/smoll"}),
        "base.path: got 'data/hub/smoll'; allowed: data/hub/smol",
    ),
    (lambda p: of_files(p, data="data/hub/facts"), "source.data: got 'data/hub/facts'; allowed: an entry of `hub`"),
    (lambda p: of_files(p, text="data/hub"), "source.text: got 'data/hub'; allowed: an entry of `hub`"),
]
CASES += TASK_CASES


@pytest.mark.parametrize(("edit", "expected"), CASES, ids=[str(i) for i in range(len(CASES))])
def test_a_fault_names_key_got_allowed_nearest(
    edit: Callable[[dict[str, Any]], object], expected: str, tmp_path: Path
) -> None:
    lines = message(tmp_path, edit)
    assert any(expected in line for line in lines), lines


PEFT_CASES: list[tuple[dict[str, Any], str]] = [
    ({"type": "dellora"}, "runs.delora.type: got 'dellora'; allowed: adalora, "),
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


@pytest.mark.parametrize("on", ["slef", [], ["self", "slef"], 3])
def test_a_source_that_is_wrong_is_one_fault(on: Any, tmp_path: Path) -> None:
    assert message(tmp_path, lambda p: keeps(p, distill={"on": on}))[0].endswith(": 1 problem")


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
