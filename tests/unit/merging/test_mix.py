from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaModel

from knowtune.checkpoints.base import Base, load_model
from knowtune.checkpoints.cards import CARD, COMPOSED, MERGED, make_card
from knowtune.common.errors import UserError
from knowtune.common.files import read_json, write_json
from knowtune.merging.mix import mix
from knowtune.merging.mixtures.average import Average
from knowtune.merging.mixtures.base import Mixture
from knowtune.merging.mixtures.dare import Dare
from knowtune.merging.mixtures.interpolate import Interpolate
from knowtune.merging.mixtures.lines import Lines
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


@pytest.mark.parametrize("member", [Average(), Ties(), Dare()])
def test_what_keeps_all_of_a_delta_adds_it_to_the_base(
    member: Mixture, base: Base, two: list[Path], tmp_path: Path
) -> None:
    mix(member, two, [3.0, 1.0], base, tmp_path / "m", 5)
    before, one, other = base.model().state_dict(), mixed(base, two[0]), mixed(base, two[1])
    found, names = mixed(base, tmp_path / "m"), sorted(before)
    for name in ("model.layers.1.mlp.up_proj.weight", "model.norm.weight"):
        deltas = [state[name] - before[name] for state in (one, other)]
        delta = member.combine(deltas, torch.tensor([0.75, 0.25]), 5 + names.index(name))
        assert torch.equal(found[name], before[name] + delta)


class TestAPartOfTheWay:
    """Between the base and one tuned model."""

    @pytest.fixture
    def far(self, base: Base, tmp_path: Path) -> Path:
        """A model whose weights no sum of base and difference gives back."""
        generator = torch.Generator().manual_seed(3)
        folder = tuned(base, tmp_path / "c" / "seed-0", torch.zeros_like)
        model = load_model(folder, COMPUTE, TASK)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
        model.save_pretrained(folder)
        return folder

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    @pytest.mark.parametrize("tied", [True, False])
    @pytest.mark.parametrize("alpha", [0.0, 1.0])
    def test_its_ends_are_base_and_model_bit_for_bit(
        self, alpha: float, tied: bool, dtype: Any, base: Base, far: Path, tmp_path: Path
    ) -> None:
        base = replace(base, compute=replace(base.compute, dtype=dtype))
        model: Any = load_model(far, base.compute, TASK)
        if not tied:
            model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach() + 1)
            model.config.tie_word_embeddings = False
        model.save_pretrained(far)
        mix(Interpolate(alpha=alpha), [far], [1.0], base, tmp_path / "m", 0)
        end = model.state_dict() if alpha else base.model().state_dict()
        found: Any = load_model(tmp_path / "m", base.compute, TASK, trained=True)
        assert equal_states(found.state_dict(), end)
        assert {tensor.dtype for tensor in found.state_dict().values()} == {getattr(torch, dtype)}
        assert (found.lm_head.weight is found.model.embed_tokens.weight) == tied

    @pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
    def test_lasting_buffers_go_along(
        self, alpha: float, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whole numbers are the base's on the way, and the model's at its end."""
        plain = LlamaModel.__init__

        def with_buffers(model: LlamaModel, config: Any) -> None:
            plain(model, config)
            model.register_buffer("counted", torch.tensor([1, 2**40 + 1]))
            model.register_buffer("scales", torch.tensor([0.1, 0.7]))

        model: Any = base.model()
        monkeypatch.setattr(LlamaModel, "__init__", with_buffers)
        buffered = type(model)(model.config)
        buffered.load_state_dict(model.state_dict(), strict=False)
        buffered.save_pretrained(tmp_path / "base")
        base.tokenizer().save_pretrained(tmp_path / "base")
        write_json(tmp_path / "base" / CARD, make_card(tmp_path / "base", "buffered"))
        base = Base.open(tmp_path / "base", tmp_path / "base", COMPUTE, TASK)
        buffered.model.counted += 2**41
        buffered.model.scales += 1 / 3
        buffered.save_pretrained(tmp_path / "s" / "seed-0")
        write_json(tmp_path / "s" / "seed-0" / MERGED, {"base_digest": base.digest})
        mix(Interpolate(alpha=alpha), [tmp_path / "s" / "seed-0"], [1.0], base, tmp_path / "m", 0)
        found, before = mixed(base, tmp_path / "m"), base.model().state_dict()
        assert torch.equal(found["model.counted"], (buffered.state_dict() if alpha == 1 else before)["model.counted"])
        assert found["model.counted"].dtype == torch.int64
        if alpha in (0, 1):
            assert equal_states(found, buffered.state_dict() if alpha else before)
        else:
            expected = (buffered.model.scales + before["model.scales"]) / 2
            assert torch.allclose(found["model.scales"], expected, atol=1e-7)

    def test_a_sum_of_base_and_difference_would_miss_the_model(self, base: Base, far: Path) -> None:
        before, after = base.model().state_dict(), mixed(base, far)
        assert not equal_states({name: t + (after[name] - t) for name, t in before.items()}, after)

    def test_it_is_linear_in_between(self, base: Base, far: Path, tmp_path: Path) -> None:
        before, after = base.model().state_dict(), mixed(base, far)
        for alpha in (0.25, 0.75):
            norms = mix(Interpolate(alpha=alpha), [far], [1.0], base, tmp_path / str(alpha), 0)
            assert norms["mixture"] == pytest.approx(alpha * norms["c"], rel=1e-5)
            for name, found in mixed(base, tmp_path / str(alpha)).items():
                assert torch.allclose(found, before[name] + alpha * (after[name] - before[name]), atol=1e-6)

    def test_of_several_runs_it_goes_towards_their_average(self, base: Base, two: list[Path], tmp_path: Path) -> None:
        mix(Average(), two, [3.0, 1.0], base, tmp_path / "average", 0)
        mix(Interpolate(alpha=0.5), two, [3.0, 1.0], base, tmp_path / "half", 0)
        before, whole = base.model().state_dict(), mixed(base, tmp_path / "average")
        for name, found in mixed(base, tmp_path / "half").items():
            assert torch.allclose(found, (before[name] + whole[name]) / 2, atol=1e-6)

    def test_lines_scales_each_block_by_its_depth(self, base: Base, two: list[Path], tmp_path: Path) -> None:
        mix(Lines(alpha=0.25, beta=0.5), two[:1], [1.0], base, tmp_path / "m", 0)
        before = base.model().state_dict()
        for name, found in mixed(base, tmp_path / "m").items():
            depth = name.split(".")[2] if ".layers." in name else "0"
            assert torch.allclose(found - before[name], torch.tensor({"0": 0.25, "1": 0.75}[depth]), atol=1e-6)

    def test_lines_needs_several_blocks(self, base: Base, two: list[Path], tmp_path: Path) -> None:
        model: Any = base.model()
        model.model.layers = model.model.layers[:1]
        model.config.num_hidden_layers = 1
        for folder in (tmp_path / "base", tmp_path / "s" / "seed-0"):
            model.save_pretrained(folder)
            base.tokenizer().save_pretrained(folder)
        write_json(tmp_path / "base" / CARD, make_card(tmp_path / "base", "shallow"))
        shallow = Base.open(tmp_path / "base", tmp_path / "base", COMPUTE, TASK)
        write_json(tmp_path / "s" / "seed-0" / MERGED, {"base_digest": shallow.digest})
        with pytest.raises(UserError, match=r"base: lines needs several blocks; interpolate scales all weights alike$"):
            mix(Lines(), [tmp_path / "s" / "seed-0"], [1.0], shallow, tmp_path / "m", 0)


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
