from __future__ import annotations

from collections import Counter

import pytest

from knowtune.preserve.part import Part
from knowtune.preserve.streams import Stream
from knowtune.text.encoded import Encoded


def stream(size: int = 10, share: float = 0.5, seed: int = 0) -> Stream:
    sequences = [Encoded.running(list(range(2 + (7 * i) % 5))) for i in range(size)]
    return Stream(sequences, [str(i) for i in range(size)], share, [seed, 1])


def parts(rows: list[int]) -> list[Part]:
    return [Part(step, sum(rows[:step]), num) for step, num in enumerate(rows)]


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0, 3.7])
def test_a_share_is_exact_over_the_steps_and_each_sequence_is_read_equally_often(share: float) -> None:
    steps = parts([8, 8, 3] * 7)
    drawn = [stream(share=share).of_step(part) for part in steps]
    read = 0
    for part, numbers in zip(steps, drawn, strict=True):
        read += len(numbers)
        assert abs(read - share * (part.rows_before + part.rows)) <= 0.5
        assert abs(len(numbers) - share * part.rows) <= 1
    counts = Counter(i for numbers in drawn for i in numbers)
    assert max(counts.values()) - min(counts[i] for i in range(10)) <= 1


def test_the_seed_the_step_and_nothing_else_decide() -> None:
    steps = parts([8] * 20)
    forth = [stream().of_step(part) for part in steps]
    one = stream()
    back = [one.of_step(part) for part in reversed(steps)]
    assert forth == back[::-1]
    assert forth != [stream(seed=1).of_step(part) for part in steps]
    passes = [tuple(sorted(forth[i] + forth[i + 1])) for i in range(0, 4, 2)]
    assert passes != [tuple(range(8))] * 2


@pytest.mark.parametrize("num_parts", [1, 2, 3, 8])
def test_parts_share_a_step_out_by_length(num_parts: int) -> None:
    one, whole = stream(share=0.7), Part(3, 24, 8)
    shared = [one.of_part(Part(3, 24, 8, number, num_parts)) for number in range(num_parts)]
    assert [i for numbers in shared for i in numbers] == one.of_step(whole)
    assert max(map(len, shared)) - min(map(len, shared)) <= 1
    lengths = [one.lengths[i] for numbers in shared for i in numbers]
    assert lengths == sorted(lengths)


def test_no_share_reads_nothing() -> None:
    assert not any(stream(share=0.0).of_step(part) for part in parts([8] * 5))
