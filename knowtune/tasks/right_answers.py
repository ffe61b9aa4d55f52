"""Right answers of rows: the target and its aliases."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase


def right_answers(rows: pd.DataFrame) -> list[list[str]]:
    """Return all right answers of each row, the target first; it may have several lines, the others have one each."""
    pairs = zip(rows["target"], rows["aliases"], strict=True)
    return [[target, *(aliases.split("\n") if aliases else [])] for target, aliases in pairs]


def longest_right_answers(tokenizer: PreTrainedTokenizerBase, rows: pd.DataFrame) -> list[int]:
    """Count the tokens of each row's longest right answer, tokenised after its prompt."""
    from knowtune.text.encode_rows import encode_rows, layouts_of

    rights = right_answers(rows)
    positions = [position for position, right in enumerate(rights) for _ in right]
    repeated = rows.iloc[positions].assign(target=[one for right in rights for one in right])
    encoded = iter(encode_rows(tokenizer, repeated["prompt"], repeated["target"], layouts_of(repeated)))
    per_row = [[next(encoded) for _ in right] for right in rights]
    return [max(row.target_end - row.target_start for row in candidates) for candidates in per_row]
