from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.common.files import read_json, write_json
from knowtune.preserve import teacher_cache
from knowtune.preserve.cached_tokens import CachedTokens, open_cache
from knowtune.preserve.comparisons import Tokens
from knowtune.preserve.options import Preserve
from knowtune.preserve.part import Part
from knowtune.preserve.preservation import open_preservation
from knowtune.preserve.sources import Material
from knowtune.preserve.teacher import FrozenCopy
from knowtune.preserve.teacher_cache import FOLDER, HEADER, write_teacher
from knowtune.text.encoded import Encoded
from tests.unit.helpers import REVIEWS, counted_calls
from tests.unit.preserve.terms import term_of


def options(**changes: Any) -> Preserve:
    cache = {} if changes.get("cache") == "none" else {"cache": "top_k", "top_k": 1000}
    return Preserve.model_validate({"distill": {"on": "self", **cache, **changes}})


def material(folder: Path | None, first: int = 5) -> Material:
    written = [Encoded.running([0, first, 9, *range(30, 32 + i % 4)]) for i in range(40)]
    return Material({"self": written}, {"self": [str(i) for i in range(40)]}, folder)


@pytest.fixture
def written(base: Base, tmp_path: Path) -> Material:
    given = material(tmp_path)
    write_teacher(base, given, options(), tmp_path / FOLDER)
    return given


def shaken(base: Base) -> Any:
    model = base.model()
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    return model


def loss_and_gradient(base: Base, given: Material, preserve: Preserve) -> tuple[torch.Tensor, torch.Tensor]:
    opened = open_preservation(preserve, given, base, 0, "train x")
    assert opened is not None
    model = shaken(base)
    opened.see_base(base.model())
    opened.see_attached(model)
    loss = term_of(opened, model, Part(0, 0, 16))
    assert loss is not None
    (gradient,) = torch.autograd.grad(loss, model.model.norm.weight)
    return loss.detach(), gradient


@pytest.mark.parametrize(("direction", "tau"), [("forward", 1.0), ("forward", 2.0), ("reverse", 1.0)])
def test_the_whole_vocabulary_is_the_exact_form(base: Base, tmp_path: Path, direction: Any, tau: float) -> None:
    given, plan = material(tmp_path), {"direction": direction, "temperature": tau}
    write_teacher(base, given, options(**plan), tmp_path / FOLDER)
    cached = loss_and_gradient(base, given, options(**plan))
    exact = loss_and_gradient(base, given, options(**plan, cache="none"))
    assert exact[0] > 0.01
    torch.testing.assert_close(cached[0], exact[0], rtol=2e-3, atol=0)
    torch.testing.assert_close(cached[1], exact[1], rtol=0, atol=2e-3 * float(exact[1].abs().max()))


def test_logs_that_16_bits_cannot_hold_are_cut(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits a thousand times as far apart, at the least temperature, with an outcome as good as impossible."""
    soften = teacher_cache.soften
    monkeypatch.setattr(teacher_cache, "soften", lambda logits, tau: soften(logits, tau) * 1000)
    given, plan = material(tmp_path), {"temperature": 0.01}
    write_teacher(base, given, options(**plan), tmp_path / FOLDER)
    assert np.load(tmp_path / FOLDER / "self/log_probs.npy").min() == np.float16(teacher_cache.LEAST)
    loss, gradient = loss_and_gradient(base, given, options(**plan))
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("top_k", [4, 320])
def test_what_the_base_never_writes(
    direction: Any, top_k: int, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models that bar two tokens, as some do with rows that only fill up the vocabulary."""
    load = Base.model

    def barring(self: Base) -> Any:
        model: Any = load(self)
        bars = torch.zeros(model.config.vocab_size).index_fill_(0, torch.tensor([2, 7]), -torch.inf)
        model.lm_head.register_forward_hook(lambda module, given, logits: logits + bars)
        return model

    monkeypatch.setattr(Base, "model", barring)
    given, plan = material(tmp_path), {"direction": direction, "top_k": top_k}
    write_teacher(base, given, options(**plan), tmp_path / FOLDER)
    loss, gradient = loss_and_gradient(base, given, options(**plan))
    assert 0 < loss < torch.inf
    assert torch.isfinite(gradient).all()


def test_few_outcomes_are_a_lower_bound_and_a_pristine_base_is_at_0(base: Base, tmp_path: Path) -> None:
    given = material(tmp_path)
    losses = []
    for k in (1, 4, 64, 320):
        write_teacher(base, given, options(top_k=k), tmp_path / FOLDER)
        losses.append(float(loss_and_gradient(base, given, options(top_k=k))[0]))
        cache = open_cache(base, given, options(top_k=k).distill, "self", "x")  # type: ignore[arg-type]
        inputs = base.task.inputs(given.sequences["self"][:5])
        with torch.no_grad():
            nothing = cache.divergences(base.model()(**inputs), cache.of_base(None, inputs, list(range(5))), inputs)
        assert float(nothing.abs().max()) < 1e-3
    assert losses == sorted(losses)
    assert losses[0] < 0.9 * losses[-1]


def test_padding_and_company_do_not_matter(base: Base, written: Material) -> None:
    rows, model = written.sequences["self"], shaken(base)
    exact = Tokens(options().distill)  # type: ignore[arg-type]
    exact.teacher = FrozenCopy(base)
    for comparison in (exact, open_cache(base, written, options().distill, "self", "x")):
        with torch.no_grad():
            alone, together = [], []
            for batch in ([0], [1], [2], [3], [3, 1, 0, 2]):
                inputs = base.task.inputs([rows[i] for i in batch])
                of_base = comparison.of_base(model, inputs, batch)
                found = comparison.divergences(model(**inputs), of_base, inputs)
                (together if len(batch) > 1 else alone).append(found)
        torch.testing.assert_close(torch.cat(alone)[[3, 1, 0, 2]], torch.cat(together), rtol=1e-4, atol=1e-5)


def test_killed_and_resumed_gives_the_same_bytes(
    base: Base, written: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher_cache, "EVERY", 1)
    again = tmp_path / "again"
    with counted_calls(teacher_cache, "_write_batch", 3, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):  # type: ignore[arg-type]
        write_teacher(base, written, options(), again)
    assert not (again / "self" / HEADER).exists()
    with counted_calls(teacher_cache, "_write_batch", 0, RuntimeError()) as calls:
        write_teacher(base, written, options(), again)
        assert calls == [1]
        write_teacher(base, written, options(), again)
        assert calls == [1]
    one, two = (
        {p.name: p.read_bytes() for p in folder.iterdir()} for folder in (tmp_path / FOLDER / "self", again / "self")
    )
    assert one == two
    assert sorted(one) == ["header.json", "ids.npy", "log_probs.npy", "log_rest.npy"]
    assert np.load(again / "self" / "ids.npy").dtype == np.uint16


def test_a_cache_of_something_else_is_refused(base: Base, written: Material, tmp_path: Path) -> None:
    def refused(given_base: Base, given: Material, preserve: Preserve) -> str:
        with pytest.raises(UserError) as caught:
            open_preservation(preserve, given, given_base, 0, "train x")
        return str(caught.value)

    again = "run the preserve stage again (dvc repro)"
    missing = f"train x: preserve.distill.cache: there is no teacher's cache of 'self' in None; {again}"
    assert refused(base, material(None), options()) == missing
    other = f"{tmp_path / FOLDER / 'self'}: a teacher's cache of another"
    assert refused(base, material(tmp_path, first=6), options()).startswith(f"{other} sequences (")
    assert refused(base, written, options(temperature=2.0)) == f"{other} temperature (1.0, here 2.0); {again}"
    assert refused(base, written, options(top_k=3)) == f"{other} top_k (1000, here 3); {again}"
    files = {name: "0" if name == "tokenizer.json" else digest for name, digest in base.card["files"].items()}
    assert f"{other} tokenizer (" in refused(replace(base, card={**base.card, "files": files}), written, options())
    assert f"{other} base (" in refused(replace(base, card={**base.card, "digest": "0"}), written, options())
    folder = tmp_path / FOLDER / "self"
    cut = (folder / "ids.npy").read_bytes()[:-9]
    (folder / "ids.npy").write_bytes(cut)
    assert refused(base, written, options()).startswith(f"{folder}: not readable (")
    write_json(folder / HEADER, {**read_json(folder / HEADER), "base": 3})
    assert "of another shape, see base" in refused(base, written, options())


def test_a_model_with_a_head_has_none(base: Base, written: Material, tmp_path: Path) -> None:
    classifier = replace(base, task=REVIEWS)
    with pytest.raises(UserError, match=r"got 'top_k', of a model with a head"):
        write_teacher(classifier, written, options(), tmp_path / "x")
    with pytest.raises(UserError, match=r"got 'top_k', of a model with a head"):
        open_cache(classifier, written, options().distill, "self", "x")


def test_numbers_that_are_not_finite(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken: Any = base.model()
    broken.lm_head.weight.data[3] = torch.inf
    monkeypatch.setattr(Base, "model", lambda self: broken)
    with pytest.raises(UserError, match="is not finite; try compute"):
        write_teacher(base, material(tmp_path), options(), tmp_path / FOLDER)
    assert not (tmp_path / FOLDER / "self" / HEADER).exists()


def test_a_cache_runs_no_base(base: Base, written: Material) -> None:
    cache = open_cache(base, written, options().distill, "self", "x")
    assert isinstance(cache, CachedTokens)
    opened = open_preservation(options(), written, base, 0, "train x")
    assert opened is not None
    with counted_calls(Base, "model", 1, AssertionError()):
        opened.see_base(None)
        opened.see_attached(None)
    assert opened.summary()["teacher"] == "the base's largest probabilities on disk"
