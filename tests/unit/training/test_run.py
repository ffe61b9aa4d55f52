from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.checkpoints.cards import ADAPTER_CARD, make_card
from knowtune.common.errors import UserError
from knowtune.common.files import file_digest, read_json, read_rows, text_digest
from knowtune.methods.base import Method
from knowtune.methods.full import Full
from knowtune.methods.imsm.method import Imsm
from knowtune.methods.lora import Lora
from knowtune.methods.peft import Peft
from knowtune.preserve.options import Preserve
from knowtune.preserve.sources import Material
from knowtune.text.encoded import Encoded
from knowtune.training.outputs import RECORD
from knowtune.training.run import Job, spread, train_seed
from tests.unit.helpers import fact_rows, plan, recipe, row, table, with_distances

WOVEN = Imsm(inner={"method": "lora", "options": {"rank": 2, "alpha": 4.0}})  # type: ignore[arg-type]


def job(**changes: Any) -> Job:
    rows = changes.pop("rows", fact_rows().head(8))
    options: dict[str, Any] = {
        "name": "lora",
        "method_name": "lora",
        "method": Lora(rank=2, alpha=4.0),
        "recipe": recipe(epochs=2),
        "seed": 3,
        "validation": fact_rows().tail(4).reset_index(drop=True),
        "mask": None,
    }
    return Job(rows=rows, **{**options, **changes})


def test_what_a_seed_leaves(base: Base, tmp_path: Path) -> None:
    train_seed(job(), base, tmp_path / "out", tmp_path / "work")
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["adapter_config.json", "adapter_model.safetensors", "curve.csv", ADAPTER_CARD, RECORD]
    curve = pd.read_csv(tmp_path / "out" / "curve.csv")
    assert curve.columns.tolist() == ["step", "split", "loss"]
    assert curve[curve["split"] == "train"]["step"].tolist() == [1, 2, 3, 4]
    assert curve[curve["split"] == "validation"]["step"].tolist() == [2, 4]
    card = read_json(tmp_path / "out" / ADAPTER_CARD)
    weights = {"adapter_model.safetensors": file_digest(tmp_path / "out" / "adapter_model.safetensors")}
    last = curve[curve["split"] == "validation"]["loss"].iloc[-1]
    assert card == {
        "base": "tiny", "base_digest": base.digest, "task": {"kind": "knowledge"},
        "example": {"prompt": "The hat of Ada is ", "text_pair": ""}, "method": "lora", "seed": 3,
        "num_rows": 8, "num_steps": 4, "reweight": None,
        "options": {"rank": 2, "alpha": 4.0, "dropout": 0.0, "target_modules": "all-linear"},
        "num_trainable": card["num_trainable"], "num_parameters": card["num_parameters"],
        "validation_loss": pytest.approx(last), "weights_digest": text_digest(weights),
    }  # fmt: skip
    # rank 2, two layers: q and o 64+64, k and v 64+32, gate, up and down 64+128
    assert card["num_trainable"] == 2 * 2 * (2 * 128 + 2 * 96 + 3 * 192)


def test_what_a_run_keeps_stands_in_its_card_and_its_curve(base: Base, tmp_path: Path) -> None:
    known = base.task.encode(base.tokenizer(), fact_rows()[8:12])
    written = [Encoded.running([0, 5, 9, 30 + i]) for i in range(5)]
    sequences: dict[str, Any] = {"known": known, "self": written}
    material = Material(sequences, {source: [str(i) for i in range(len(rows))] for source, rows in sequences.items()})
    preserve = Preserve.model_validate({"replay": {"from": "known"}, "distill": {"on": "self", "temperature": 2.0}})
    for name in ("a", "b"):
        train_seed(job(preserve=preserve, material=material), base, tmp_path / name, tmp_path / f"work-{name}")
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("a", "b"))
    assert one == two
    curve = pd.read_csv(tmp_path / "a" / "curve.csv")
    of_step = ["train", "replay", "distill"]
    assert curve["split"].tolist() == [*of_step, *of_step, "validation"] * 2
    card = read_json(tmp_path / "a" / ADAPTER_CARD)["preserve"]
    assert card["replay"] == {"from": "known", "share": 0.5, "weight": 1.0}
    assert card["distill"]["temperature"] == 2.0
    assert card["anchor"] is None
    assert card["teacher"] == "the model with its adapter off"
    assert {source: kept["sequences"] for source, kept in card["sources"].items()} == {"known": 4, "self": 5}
    assert card["sources"]["self"]["digest"] == text_digest([row.input_ids for row in written])
    train_seed(job(), base, tmp_path / "plain", tmp_path / "work-plain")
    assert "preserve" not in read_json(tmp_path / "plain" / ADAPTER_CARD)


def test_twice_equal_bytes_and_no_path(base: Base, tmp_path: Path) -> None:
    for name in ("a", "b"):
        train_seed(job(), base, tmp_path / name, tmp_path / f"work-{name}")
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("a", "b"))
    assert one == two
    for data in one.values():
        assert str(tmp_path).encode() not in data
        assert str(base.folder).encode() not in data


def test_fewer_validation_rows_change_nothing_but_their_loss(base: Base, tmp_path: Path) -> None:
    rows = fact_rows().tail(8).reset_index(drop=True)
    given = {"all": (rows, None), "few": (rows, 2), "those": (rows.iloc[[0, 4]].reset_index(drop=True), None)}
    cards, weights = {}, {}
    for name, (validation, most) in given.items():
        made = job(validation=validation, recipe=recipe(epochs=2, max_validation=most))
        train_seed(made, base, tmp_path / name, tmp_path / f"work-{name}")
        cards[name] = read_json(tmp_path / name / ADAPTER_CARD)["validation_loss"]
        weights[name] = file_digest(tmp_path / name / "adapter_model.safetensors")
    assert cards["few"] == cards["those"] != cards["all"]
    assert len(set(weights.values())) == 1


def test_rows_of_like_length_meet_within_the_window(base: Base, tmp_path: Path) -> None:
    rows = pd.concat([fact_rows().head(8), fact_rows().tail(8)], ignore_index=True)
    weights = set()
    for window in (1, 4, 40):  # of four batches: more than all are all
        made = job(rows=rows, recipe=recipe(epochs=1, batch_size=4, length_window=window))
        train_seed(made, base, tmp_path / f"{window}", tmp_path / f"work-{window}")
        weights.add(file_digest(tmp_path / f"{window}" / "adapter_model.safetensors"))
    assert len(weights) == 2


@pytest.mark.parametrize(
    ("most", "taken"), [(None, [0, 1, 2, 3, 4]), (9, [0, 1, 2, 3, 4]), (5, [0, 1, 2, 3, 4]), (3, [0, 1, 3]), (1, [0])]
)
def test_rows_are_taken_at_equal_distances(most: int | None, taken: list[int]) -> None:
    assert spread(pd.DataFrame({"n": range(5)}), most)["n"].tolist() == taken


def test_without_validation_rows_there_is_no_validation_loss(base: Base, tmp_path: Path) -> None:
    train_seed(job(validation=fact_rows()[:0]), base, tmp_path / "out", tmp_path / "work")
    assert json.loads((tmp_path / "out" / ADAPTER_CARD).read_text())["validation_loss"] is None


@pytest.mark.parametrize(
    ("granularity", "method"),
    [("example", Lora(rank=2, alpha=4.0)), ("token", Lora(rank=2, alpha=4.0)), ("token", WOVEN)],
    ids=["example", "token", "token, woven"],
)
def test_weighed_rows_leave_their_weights(granularity: str, method: Method, base: Base, tmp_path: Path) -> None:
    rows = with_distances(fact_rows()).iloc[[1, 4, 5, 9]]  # as chosen rows come: on an index of their own
    weighed = plan(alpha=0.9, granularity=granularity, refresh_steps=1)
    train_seed(job(rows=rows, method=method, reweight=weighed), base, tmp_path / "out", tmp_path / "work")
    train_seed(job(rows=rows, method=method), base, tmp_path / "plain", tmp_path / "plain-work")
    card = read_json(tmp_path / "out" / ADAPTER_CARD)
    assert weighed.weighting.model_dump().items() <= card["reweight"].items()
    assert card["reweight"]["measured_at"] == 1  # of two steps
    weights = read_rows(tmp_path / "out" / "weights.jsonl")
    assert weights["id"].tolist() == rows["id"].tolist()
    assert weights["weight"].min() >= card["reweight"]["min"] - 1e-6
    assert weights["weight"].max() <= card["reweight"]["max"] + 1e-6
    assert "weights.jsonl" not in {path.name for path in (tmp_path / "plain").iterdir()}
    files = [tmp_path / name / "adapter_model.safetensors" for name in ("out", "plain")]
    assert files[0].read_bytes() != files[1].read_bytes()


def test_weights_of_alpha_0_leave_the_adapter_of_a_plain_run(base: Base, tmp_path: Path) -> None:
    rows = with_distances(fact_rows()).head(8)
    for name, weighed in (("plain", None), ("weighed", plan(alpha=0.0, refresh_steps=1))):
        train_seed(job(rows=rows, reweight=weighed), base, tmp_path / name, tmp_path / f"work-{name}")
    for file in ("adapter_model.safetensors", "adapter_config.json", "curve.csv"):
        assert (tmp_path / "plain" / file).read_bytes() == (tmp_path / "weighed" / file).read_bytes()


def test_a_row_longer_than_the_context_stops_the_run(base: Base, tmp_path: Path) -> None:
    rows = table(row("short", "Ada lives in ", "Rome"), row("long", "qz" * 40, "Rome"), row("long2", "qz" * 50, "x"))
    with pytest.raises(UserError) as caught:
        train_seed(job(rows=rows), base, tmp_path / "out", tmp_path / "work")
    assert str(caught.value) == (
        "train lora, seed 3: 2 rows are longer than the base's context of 64 tokens, e.g. 'long'; "
        "use a selection whose filter has `clean`"
    )
    assert not (tmp_path / "out").exists()


def test_virtual_tokens_take_positions_of_the_context(base: Base, tmp_path: Path) -> None:
    method = Peft(type="prompt_tuning", num_virtual_tokens=60)
    with pytest.raises(UserError) as caught:
        train_seed(job(method=method, method_name="peft"), base, tmp_path / "out", tmp_path / "work")
    assert "longer than the base's context of 64 tokens, of which the method's virtual tokens take 60" in str(
        caught.value
    )


ATTACHED: list[int] = []


class Counted(Lora):
    def attach(self, model: Any) -> torch.nn.Module:
        ATTACHED.append(1)
        return super().attach(model)


def test_the_seeds_of_a_run_share_a_dry_run_and_train_the_same(base: Base, tmp_path: Path) -> None:
    ATTACHED.clear()
    for seed in (3, 4):
        counted = job(method=Counted(rank=2, alpha=4.0), seed=seed)
        work = tmp_path / "work"
        train_seed(counted, base, tmp_path / f"{seed}", work / f"{seed}", work / "dry-run.json")
    assert len(ATTACHED) == 3  # once to try, twice to train
    train_seed(job(seed=4), base, tmp_path / "alone", tmp_path / "work-alone")
    one, other = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("4", "alone"))
    assert one == other


def test_a_dry_run_that_fails_does_not_count(base: Base, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(UserError, match="merged, this method would compute something else"):
            forgetful = job(method=Forgetful(rank=2, alpha=4.0))
            train_seed(forgetful, base, tmp_path / "out", tmp_path / "work", tmp_path / "dry-run.json")


def test_a_base_that_cannot_be_computed_stops_before_all_of_it_is_trained(base: Base, tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=320, n_embd=16, n_layer=1, n_head=2, n_positions=4, bos_token_id=1, eos_token_id=1)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "base")
    base.tokenizer().save_pretrained(tmp_path / "base")
    card = {**make_card(tmp_path / "base", "short"), "context": 64}  # as if its positions were as many
    short = Base(card, tmp_path / "base", base.compute, base.task)
    with pytest.raises(UserError) as caught:
        train_seed(job(method=Full(), method_name="full"), short, tmp_path / "out", tmp_path / "work")
    assert str(caught.value) == (
        "train lora, seed 3: the base cannot be computed: index out of range in self; look at its config.json"
    )
    assert not (tmp_path / "work").exists()


class Forgetful(Lora):
    def fold(self, model: torch.nn.Module) -> Any:
        return model.unload()  # type: ignore[operator]


def test_a_method_that_folds_to_another_model_is_refused_before_training(base: Base, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^train lora, seed 3: merged, this method would compute something else"):
        train_seed(job(method=Forgetful(rank=2, alpha=4.0)), base, tmp_path / "out", tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_all_linear_where_peft_refuses_one_of_them_names_the_remedy(base: Base, tmp_path: Path) -> None:
    from transformers import MambaConfig, MambaForCausalLM

    model: Any = MambaForCausalLM(MambaConfig(vocab_size=320, hidden_size=16, num_hidden_layers=1, state_size=4))
    with pytest.raises(UserError) as caught:
        Lora(rank=2, alpha=4.0).attach(model)
    assert "'out_proj' is incompatible with Mamba" in str(caught.value)
    assert str(caught.value).endswith("; name layers of the backbone in target_modules, instead of all-linear")
