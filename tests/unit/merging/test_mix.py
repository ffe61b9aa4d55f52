from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from knowtune.checkpoints.base import Base, load_model
from knowtune.checkpoints.cards import COMPOSED, MERGED
from knowtune.common.errors import UserError
from knowtune.common.files import read_json, write_json
from knowtune.merging.mix import mix
from knowtune.merging.mixtures.average import Average
from knowtune.merging.mixtures.dare import Dare
from knowtune.merging.mixtures.ties import Ties
from tests.unit.helpers import COMPUTE, TASK, equal_states, state


def tuned(base: Base, folder: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> Path:
    model = base.model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += change(parameter)
    model.save_pretrained(folder)
    write_json(folder / MERGED, {"kind": "folded", "base_digest": base.digest, "weights_digest": folder.parent.name})
    return folder


@pytest.fixture
def two(base: Base, tmp_path: Path) -> list[Path]:
    generator = torch.Generator().manual_seed(0)
    return [
        tuned(base, tmp_path / "a" / "seed-0", lambda p: torch.ones_like(p)),
        tuned(base, tmp_path / "b" / "seed-0", lambda p: torch.randn(p.shape, generator=generator)),
    ]


def mixed(base: Base, folder: Path) -> dict[str, torch.Tensor]:
    return state(load_model(folder, COMPUTE, TASK))


def test_one_model_alone_is_that_model(base: Base, two: list[Path], tmp_path: Path) -> None:
    norms = mix(Average(), two[:1], [3.0], base, tmp_path / "m", 0)
    found, expected = mixed(base, tmp_path / "m"), mixed(base, two[0])
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)
    num = sum(p.numel() for p in base.model().parameters())
    assert norms == {"a": pytest.approx(math.sqrt(num), rel=1e-5), "mixture": pytest.approx(math.sqrt(num), rel=1e-5)}


def test_the_average_by_hand(base: Base, two: list[Path], tmp_path: Path) -> None:
    norms = mix(Average(), two, [3.0, 1.0], base, tmp_path / "m", 0)
    one, other, found = mixed(base, two[0]), mixed(base, two[1]), mixed(base, tmp_path / "m")
    for name in found:
        assert torch.allclose(found[name], 0.75 * one[name] + 0.25 * other[name], atol=1e-5)
    assert list(norms) == ["a", "b", "mixture"]


def test_what_is_written(base: Base, two: list[Path], tmp_path: Path) -> None:
    mix(Ties(), two, [1.0, 1.0], base, tmp_path / "m", 0)
    card = read_json(tmp_path / "m" / MERGED)
    assert (card["kind"], card["base_digest"]) == ("mixed", base.digest)
    model = load_model(tmp_path / "m", COMPUTE, TASK)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert (tmp_path / "m" / "tokenizer.json").is_file()
    assert model.state_dict().keys() == base.model().state_dict().keys()


def test_the_weights_digest_is_of_this_mixture(base: Base, two: list[Path], tmp_path: Path) -> None:
    mix(Average(), two, [1.0, 1.0], base, tmp_path / "m", 0)
    mix(Ties(), two, [1.0, 1.0], base, tmp_path / "n", 0)
    digests = [read_json(tmp_path / n / MERGED)["weights_digest"] for n in ("m", "n")]
    assert digests[0] != digests[1]


@pytest.mark.parametrize(("seeds", "same"), [((0, 0), True), ((0, 1), False)])
def test_the_seed_decides_what_is_dropped(
    base: Base, two: list[Path], tmp_path: Path, seeds: tuple[int, int], same: bool
) -> None:
    for place, seed in zip("mn", seeds, strict=True):
        mix(Dare(density=0.5), two, [1.0, 1.0], base, tmp_path / place, seed)
    assert equal_states(mixed(base, tmp_path / "m"), mixed(base, tmp_path / "n")) is same


def test_every_tensor_is_dropped_from_by_a_lot_of_its_own(base: Base, two: list[Path], tmp_path: Path) -> None:
    mix(Dare(density=0.5), two[:1], [1.0], base, tmp_path / "m", 0)
    before, found = base.model().state_dict(), mixed(base, tmp_path / "m")
    kept = [
        (found[f"model.layers.{i}.mlp.{n}_proj.weight"] - before[f"model.layers.{i}.mlp.{n}_proj.weight"]).abs() > 0.5
        for i in (0, 1)
        for n in ("gate", "up")
    ]
    assert all(0.45 < k.float().mean() < 0.55 for k in kept)
    assert not any(torch.equal(kept[0], other) for other in kept[1:])


def test_a_composed_artefact_is_refused(base: Base, two: list[Path], tmp_path: Path) -> None:
    write_json(two[1] / COMPOSED, {})
    with pytest.raises(UserError) as caught:
        mix(Average(), two, [1.0, 1.0], base, tmp_path / "m", 0)
    assert str(caught.value) == (f"{two[1]}: a composed artefact has no plain weights to mix; choose a run that folds")


def test_a_model_of_another_base_is_refused(base: Base, two: list[Path], tmp_path: Path) -> None:
    write_json(two[1] / MERGED, {"base_digest": "f" * 64, "weights_digest": "x"})
    with pytest.raises(UserError, match=rf"^{two[1]}: made on a base with digest ffffffffffff"):
        mix(Average(), two, [1.0, 1.0], base, tmp_path / "m", 0)
    assert not (tmp_path / "m").exists()


def test_a_model_that_is_no_longer_tied_gives_a_mixture_that_is_not(
    base: Base, two: list[Path], tmp_path: Path
) -> None:
    model: Any = base.model()
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach() + 1)
    model.config.tie_word_embeddings = False
    model.save_pretrained(two[1])
    mix(Average(), two, [1.0, 1.0], base, tmp_path / "m", 0)  # of a, whose every weight is one more
    before, found = base.model().state_dict(), mixed(base, tmp_path / "m")
    assert torch.allclose(found["lm_head.weight"], before["lm_head.weight"] + 1, atol=1e-6)
    assert torch.allclose(found["model.embed_tokens.weight"], before["model.embed_tokens.weight"] + 0.5, atol=1e-6)
