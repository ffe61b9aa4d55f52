"""Match answers against right ones: F1 of words, containment, final number.

Words are compared as by SQuAD's scorer (Rajpurkar et al., arXiv 1606.05250): without case, punctuation and the English
articles. Beyond it, Unicode's compatibility forms are one, punctuation is Unicode's, and each character of a script
that is written without blanks is a word of its own.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

from knowtune.tasks.right_answers import right_answers
from knowtune.text.normalize import unspaced

if TYPE_CHECKING:
    import pandas as pd

ARTICLES = frozenset({"a", "an", "the"})
_number = re.compile(
    r"(?:(?<![\w.)])[-−])?"  # a minus, and not the dash of a range
    r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"  # 1,234.5 or 1234.5 or .5
    r"(?:[eE][-+]?\d{1,3}\b)?"
)


def words(text: str) -> list[str]:
    """Split a text into the words that are compared."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join("" if unicodedata.category(character).startswith("P") else character for character in folded)
    return [word for word in unspaced.sub(r" \g<0> ", kept).split() if word not in ARTICLES]


def token_f1(answer: str, right: str) -> float:
    """Return the harmonic mean of precision and recall of the answer's words; 1 where neither has any."""
    given, wanted = words(answer), words(right)
    if not given or not wanted:
        return float(given == wanted)
    shared = (Counter(given) & Counter(wanted)).total()
    return 2 * shared / (len(given) + len(wanted))


def contains(answer: str, right: str) -> bool:
    """Tell whether the words of the right answer stand in the answer, one after the other."""
    given, wanted = words(answer), words(right)
    if not wanted:  # punctuation alone, as ":-)"
        return bool(right.strip()) and right.strip() in answer
    return any(given[start : start + len(wanted)] == wanted for start in range(len(given) - len(wanted) + 1))


def final_number(text: str) -> Decimal | None:
    r"""Read the number that a text ends with: after the last "####" (GSM8K), in the last \boxed{}, or the last of all.

    Commas between groups of three digits are no part of the value: 1,234.50 is 1234.5.
    """
    marked = [text.rpartition("####")[2]] if "####" in text else []
    boxed = re.findall(r"\\boxed\{([^{}]*)\}", text)
    for part in (*marked, *boxed[-1:], text):
        numbers = _number.findall(unicodedata.normalize("NFKC", part))
        if numbers:
            number = numbers[0] if part in marked else numbers[-1]
            return Decimal(number.replace(",", "").replace("−", "-"))
    return None


def same_number(answer: str, right: str) -> bool:
    """Tell whether two texts end with the same number; not where the right one has none."""
    wanted = final_number(right)
    return wanted is not None and final_number(answer) == wanted


def best_of(
    examples: pd.DataFrame, compare: Callable[[str, str], float], counts: Callable[[str], bool] = bool
) -> list[float]:
    """Compare each example's answer with its right ones, and return the best scores; none where there are no answers.

    Args:
        examples: with answer, target and aliases.
        compare: answer and right answer; higher is better.
        counts: whether something can be compared with a right answer. Examples that have none such are left out.
    """
    if "answer" not in examples:
        return []
    pairs = zip(examples["answer"], right_answers(examples), strict=True)
    scores = ([float(compare(answer, one)) for one in right if counts(one)] for answer, right in pairs)
    return [max(values) for values in scores if values]


def preferred_share(examples: pd.DataFrame) -> float | None:
    """Return the share of examples whose right answer is likelier than the old one, of those that have an old one.

    Args:
        examples: with loss and old_loss, in nats per token.
    """
    if "old_loss" not in examples:
        return None
    old = examples["old_loss"].astype(float)
    chosen = old.notna()
    return float((examples["loss"].astype(float) < old)[chosen].mean()) if chosen.any() else None
