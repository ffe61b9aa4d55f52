from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from knowtune.checkpoints.base import Base
from knowtune.common.errors import UserError
from knowtune.models.forward import forward
from knowtune.models.sample import draw_tokens, sample_sequences

OPTIONS = {"max_tokens": 12, "temperature": 1.0, "seed": 0}


def sampled(base: Base, numbers: list[int], model: Any = None, start: list[int] | None = None, **options: Any) -> Any:
    tokenizer = base.tokenizer()
    starts = [start or [tokenizer.bos_token_id]] * len(numbers)
    return sample_sequences(model or base.model(), tokenizer, starts, numbers, **{**OPTIONS, **options})


class TestDrawTokens:
    def test_frequencies_are_the_probabilities(self) -> None:
        logits = torch.tensor([0.0, 1.0, -2.0, 3.0, 1.0]).repeat(20_000, 1)
        uniform = torch.from_numpy(np.random.default_rng(0).random(len(logits)))
        counts = draw_tokens(logits, uniform).bincount(minlength=5) / len(logits)
        torch.testing.assert_close(counts, logits[0].softmax(-1), atol=0.01, rtol=0)

    @pytest.mark.parametrize("u", [0.0, 0.5, 1 - 2**-53])
    def test_what_has_no_probability_is_never_drawn(self, u: float) -> None:
        never = -torch.inf
        logits = torch.tensor([[never, 1.0, never, 1.0, never, never]])
        assert int(draw_tokens(logits, torch.tensor([u], dtype=torch.float64))) in (1, 3)

    def test_a_number_is_where_the_cumulated_probability_passes_it(self) -> None:
        logits = torch.tensor([0.25, 0.5, 0.25]).log().repeat(4, 1)
        uniform = torch.tensor([0.2, 0.3, 0.74, 0.76], dtype=torch.float64)
        assert draw_tokens(logits, uniform).tolist() == [0, 1, 1, 2]

    def test_numbers_that_are_not_finite(self) -> None:
        with pytest.raises(UserError, match="not finite"):
            draw_tokens(torch.tensor([[1.0, torch.nan]]), torch.tensor([0.5]).double())


class TestSampleSequences:
    def test_a_sequence_depends_on_its_number_and_the_seed_alone(self, base: Base) -> None:
        together = sampled(base, list(range(7)))
        assert [sampled(base, [number])[0] for number in range(7)] == together
        assert sampled(base, [6, 3, 0]) == [together[6], together[3], together[0]]
        assert sampled(base, list(range(7)), seed=1) != together
        assert len({tuple(sequence) for sequence in together}) > 1

    def test_the_global_generators_neither_decide_nor_move(self, base: Base) -> None:
        torch.manual_seed(1)
        one = sampled(base, [0, 1])
        torch.manual_seed(2)
        before = torch.get_rng_state()
        assert sampled(base, [0, 1]) == one
        assert torch.equal(torch.get_rng_state(), before)

    def test_each_token_is_drawn_from_the_model_s_own_distribution(self, base: Base) -> None:
        model = base.model()
        for number, sequence in enumerate(sampled(base, list(range(5)), model, temperature=0.7)):
            logits = forward(model, [sequence])[0] / 0.7
            uniform = torch.from_numpy(np.random.default_rng((0, number)).random(12))[: len(sequence) - 1]
            assert draw_tokens(logits[:-1], uniform).tolist() == sequence[1:]

    def test_a_checkpoint_s_own_settings_do_not_count(self, base: Base) -> None:
        plain, model = sampled(base, list(range(7))), base.model()
        settings = {"do_sample": True, "top_k": 1, "top_p": 0.1, "temperature": 0.1, "repetition_penalty": 9.0}
        model.generation_config.update(**settings)
        assert sampled(base, list(range(7)), model) == plain
        assert model.generation_config.top_k == 1

    def test_a_sequence_ends_with_the_end_token_or_at_its_length(self, base: Base) -> None:
        end = base.tokenizer().eos_token_id
        found = sampled(base, list(range(40)))
        assert {len(sequence) for sequence in found} > {12}
        for sequence in found:
            assert len(sequence) == 12 or sequence[-1] == end
            assert end not in sequence[1:-1]

    def test_prompts_of_unlike_length_go_on_as_alone(self, base: Base) -> None:
        tokenizer, model = base.tokenizer(), base.model()
        starts = [[tokenizer.bos_token_id, *range(5, 5 + n)] for n in (0, 4, 2, 4)]
        together = sample_sequences(model, tokenizer, starts, [0, 1, 2, 3], **OPTIONS)  # type: ignore[arg-type]
        alone = [sampled(base, [n], model, start)[0] for n, start in enumerate(starts)]
        assert together == alone
        assert all(ids[: len(start)] == start for ids, start in zip(together, starts, strict=True))
