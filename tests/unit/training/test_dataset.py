from __future__ import annotations

from knowtune.text.encoded import Encoded
from knowtune.training.dataset import LengthBuckets, Rows, collate
from tests.unit.helpers import (
    TASK,
)


class TestRows:
    def test_a_row_knows_its_number(self) -> None:
        rows = Rows([Encoded([1, 2, 3], 1, 2), Encoded([4, 5], 1, 2)], ["a", "b"], [1.0, 0.5])
        assert len(rows) == 2
        assert rows[1] == {"row": Encoded([4, 5], 1, 2), "index": 1}

    def test_a_rows_weight_is_that_of_all_its_target_tokens(self) -> None:
        rows = Rows([Encoded([1, 2, 3], 1, 2), Encoded([4, 5, 6, 7], 0, 2), Encoded([4, 5], 1, 2)], "abc", [1, 0.5, 2])
        assert rows.counts.tolist() == [2, 3, 1]
        assert rows.weights.tolist() == [1.0, 1.0, 0.5, 0.5, 0.5, 2.0]
        assert rows.positions([2, 0]).tolist() == [5, 0, 1]

    def test_a_batch_is_padded_on_the_right(self) -> None:
        rows = Rows([Encoded([1, 2, 3, 9], 2, 3), Encoded([4, 9], 1, 1)], ["a", "b"])
        batch = collate([rows[0], rows[1]], TASK)
        assert batch["input_ids"].tolist() == [[1, 2, 3, 9], [4, 9, 0, 0]]
        assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
        assert batch["labels"].tolist() == [[-100, -100, 3, 9], [-100, 9, -100, -100]]
        assert batch["index"].tolist() == [0, 1]


class TestLengthBuckets:
    LENGTHS = (3, 9, 4, 8, 5, 7, 6, 3, 9, 4, 2)

    def order(self, seed: int = 0, epoch: int = 0, size: int = 2, window: int = 16) -> list[int]:
        sampler = LengthBuckets(self.LENGTHS, size, seed, window)
        sampler.set_epoch(epoch)
        return list(sampler)

    def test_every_row_once(self) -> None:
        assert sorted(self.order()) == list(range(11))
        assert len(LengthBuckets(self.LENGTHS, 2, 0, 4)) == 11

    def test_batches_are_of_like_length(self) -> None:
        order = self.order()
        spread = [abs(self.LENGTHS[a] - self.LENGTHS[b]) for a, b in zip(order[:10:2], order[1:10:2], strict=True)]
        assert max(spread) <= 1
        assert self.LENGTHS[order[-1]] == 9  # the short batch is last: what one sort leaves over

    def test_another_epoch_and_another_seed_are_other_orders(self) -> None:
        assert self.order() == self.order()
        assert self.order() != self.order(epoch=1)
        assert self.order() != self.order(seed=1)

    def test_small_windows_mix_more(self) -> None:
        assert self.order(window=1) != self.order(window=16)
        assert sorted(self.order(window=1)) == list(range(11))
