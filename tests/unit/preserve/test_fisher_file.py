from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.checkpoints.cards import CARD, make_card
from knowtune.common.errors import UserError
from knowtune.common.files import write_json
from knowtune.gradients.fisher import fisher_diagonal, parameters_in
from knowtune.gradients.options import Scoring
from knowtune.preserve.fisher_file import FILE, open_fisher, write_fisher
from knowtune.preserve.options import Anchor
from knowtune.preserve.sources import Material, make_material
from tests.unit.helpers import fact_rows, review_rows


def ewc(**changes: Any) -> Anchor:
    return Anchor.model_validate({"form": "ewc", "weight": 1.0, "from": "known", **changes})


def material(base: Base, count: int = 6) -> Material:
    rows = review_rows() if base.task.learned == "accuracy" else fact_rows()
    return make_material(base, {"known": rows.head(count)}, 12)


def test_it_is_the_pristine_bases_by_weight_with_mean_1(base: Base, tmp_path: Path) -> None:
    kept = material(base)
    write_fisher(base, kept, ewc(), tmp_path)
    fisher = open_fisher(base, kept, ewc(), tmp_path)
    model = base.model()
    expected = fisher_diagonal(model, kept.sequences["known"], base.task, parameters_in(model), Scoring())
    assert fisher.names == set(expected)  # a tied weight once
    mean = torch.cat([values.flatten() for values in expected.values()]).double().mean()
    for name, values in expected.items():
        assert fisher(name).dtype == torch.float32
        assert torch.allclose(fisher(name), values / mean, rtol=1e-5, atol=0)


def test_sources_count_alike_however_large_their_gradients_are(base: Base, tmp_path: Path) -> None:
    rows = fact_rows()
    texts = pd.DataFrame({"id": ["a", "b"], "text": ["Bran lives in Oslo.", "The sky is far."]})
    kept = make_material(base, {"known": rows.head(6), "text": texts}, 12)
    written = {}
    for sources in (["known"], ["text"], ["known", "text"]):
        folder = tmp_path / "+".join(sources)
        folder.mkdir()
        write_fisher(base, kept, ewc(**{"from": sources}), folder)
        written[len(written)] = open_fisher(base, kept, ewc(**{"from": sources}), folder)
    known, text, both = written.values()
    for name in both.names:
        assert torch.allclose(both(name), (known(name) + text(name)) / 2, rtol=1e-5)
    with pytest.raises(UserError, match=r"taken on other sequences"):
        open_fisher(base, kept, ewc(), tmp_path / "text")


def test_equal_bytes_every_time(base: Base, tmp_path: Path) -> None:
    kept, written = material(base), []
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        write_fisher(base, kept, ewc(samples=3), tmp_path / str(number), work=tmp_path / f"work-{number}")
        written.append((tmp_path / str(number) / FILE).read_bytes())
    assert written[0] == written[1] == written[2]


def test_some_sequences_alone(base: Base, tmp_path: Path) -> None:
    kept = material(base)
    write_fisher(base, kept, ewc(samples=1), tmp_path)
    fisher = open_fisher(base, kept, ewc(samples=1), tmp_path)
    model = base.model()
    each = [
        fisher_diagonal(model, [row], base.task, {"model.norm.weight": model.model.norm.weight}, Scoring())
        for row in kept.sequences["known"]
    ]
    cosines = [torch.cosine_similarity(fisher("model.norm.weight"), one["model.norm.weight"], dim=0) for one in each]
    assert sum(float(cosine) > 1 - 1e-6 for cosine in cosines) == 1  # scaled, so they are parallel
    with pytest.raises(UserError, match=r"it has nothing of lm_head.weight; run the preserve stage again$"):
        fisher("lm_head.weight")


def test_of_a_new_head_there_is_none(decoder: Base, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        write_fisher(decoder, material(decoder), ewc(), tmp_path, label="preserve x")
    assert str(caught.value) == (
        "preserve x: preserve.anchor.form: got ewc, and the base's head is new (score.weight), so that it guesses "
        "at random; take l2, distill on text, or give a base with a head"
    )
    assert not list(tmp_path.iterdir())


def test_a_trained_head_has_one(decoder: Base, tmp_path: Path) -> None:
    decoder.model().save_pretrained(tmp_path / "base")
    decoder.tokenizer().save_pretrained(tmp_path / "base")
    write_json(tmp_path / "base" / CARD, make_card(tmp_path / "base", "trained"))
    trained = Base.open(tmp_path / "base", tmp_path / "base", decoder.compute, decoder.task)
    write_fisher(trained, material(trained), ewc(), tmp_path)
    assert "score.weight" in open_fisher(trained, material(trained), ewc(), tmp_path).names


def test_more_samples_than_there_are(base: Base, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        write_fisher(base, material(base), ewc(samples=7), tmp_path)
    assert str(caught.value) == (
        "preserve: preserve.anchor.samples: got 7, but 'known' has only 6 sequences; allowed: up to that"
    )


def test_that_of_another_base_or_of_other_sequences_is_refused(base: Base, tmp_path: Path) -> None:
    write_fisher(base, material(base), ewc(), tmp_path)
    other = replace(base, card={**base.card, "digest": "f" * 64})
    with pytest.raises(UserError, match=r"fisher.safetensors: made on a base with digest .* has ffffffffffff"):
        open_fisher(other, material(base), ewc(), tmp_path)
    for kept, anchor in ((material(base, 5), ewc()), (material(base), ewc(samples=2))):
        with pytest.raises(UserError, match=r"taken on other sequences than this run's; run the preserve stage again$"):
            open_fisher(base, kept, anchor, tmp_path)


def test_a_file_that_is_missing_or_damaged(base: Base, tmp_path: Path) -> None:
    for damage in ("missing", "damaged"):
        if damage == "damaged":
            (tmp_path / FILE).write_bytes(b"no tensors")
        with pytest.raises(UserError, match=r"no Fisher information in it \(.*\); run the preserve stage again$"):
            open_fisher(base, material(base), ewc(), tmp_path)
