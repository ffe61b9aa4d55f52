"""The filter that drops what rules alone can see: empty targets, duplicates, contradictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from knowtune.filters.base import Filter

if TYPE_CHECKING:
    import pandas as pd

    from knowtune.filters.base import Seen

CHUNK = 50_000  # rows whose texts are in memory as Python objects at a time


class Clean(Filter):
    """Drop rows by rules. It sees no wrong target that nothing contradicts.

    Of duplicates (same prompt and target) the one with the lowest id stays. Of a contradiction (same prompt, several
    targets) every row goes, unless one target has at least `majority` of the rows: then the others go. Rows that name
    the same right answers do not contradict each other, whichever of them is the target. What is the same follows
    `knowtune.text.normalize.normal_form`: case, blanks, Unicode's forms and the shapes of quotes make no difference.
    """

    reads: ClassVar[tuple[str, ...] | None] = ("prompt", "text_pair", "aliases")

    empty: bool = Field(default=True, description="drop rows without a target")
    duplicates: bool = Field(default=True, description="drop all but one of equal rows")
    contradictions: bool = Field(default=True, description="drop rows of one prompt with several targets")
    majority: float = Field(
        default=1.0, gt=0.5, le=1, description="share of a prompt's rows that settles a contradiction"
    )

    def reasons(self, rows: pd.DataFrame, seen: Seen) -> pd.Series[str]:
        """Name the first rule that a row breaks."""
        import pandas as pd

        reasons = pd.Series("", index=rows.index, dtype="str")
        prompt, target = _plain(rows["prompt"], rows["text_pair"]), _plain(rows["target"])
        if self.empty:
            reasons[(target == "").to_numpy()] = "empty: the target has no text"
        codes = {"prompt": prompt.factorize()[0], "target": target.factorize()[0]}
        codes["right"] = _right(target, rows["aliases"]).factorize()[0]
        coded = pd.DataFrame({**codes, "id": rows["id"]}, index=rows.index)
        del prompt, target  # numbers take a tenth of the memory
        if self.contradictions:
            open_pairs = coded[reasons == ""]
            by_prompt = open_pairs.groupby("prompt")
            num_targets = by_prompt["target"].transform("nunique")
            several = (num_targets > 1) & (by_prompt["right"].transform("nunique") > 1)
            agree = [open_pairs.groupby(["prompt", key])["id"].transform("size") for key in ("target", "right")]
            share = agree[0].combine(agree[1], max) / by_prompt["id"].transform("size")
            against = num_targets.index[several & ((share < self.majority) | (share <= 0.5))]
            reasons[against] = "contradiction: this prompt has " + num_targets[against].astype(str) + " targets"
        if self.duplicates:
            left = coded[reasons == ""]
            twins = left[left.duplicated(["prompt", "target"], keep=False)].sort_values("id")
            first_id = twins.groupby(["prompt", "target"])["id"].transform("first")
            again = twins.index[first_id != twins["id"]]
            reasons[again] = "duplicate: of " + first_id[again]
        return reasons


def _right(target: pd.Series[str], aliases: pd.Series[str]) -> pd.Series[str]:
    """Name all that is right of each row, in one order; where there are no aliases, that is the target."""
    import pandas as pd

    from knowtune.text.normalize import normal_form

    given = (aliases != "").to_numpy()
    if not given.any():
        return target
    further = aliases[given].str.split("\n")
    answers = [
        "\n".join(sorted({one, *map(normal_form, more)})) for one, more in zip(target[given], further, strict=True)
    ]
    right = target.copy()
    right[given] = pd.array(answers, dtype="str")
    return right


def _plain(*texts: pd.Series[str]) -> pd.Series[str]:
    """Return normal forms, so that rows that read the same are the same; several texts of a row become one."""
    import pandas as pd

    from knowtune.text.normalize import normal_form

    parts = [pd.Series(dtype="str")]
    for start in range(0, len(texts[0]), CHUNK):
        chunk = zip(*(text.iloc[start : start + CHUNK] for text in texts), strict=True)
        parts.append(pd.Series([" ␟ ".join(map(normal_form, row)) for row in chunk], dtype="str"))
    return pd.concat(parts, ignore_index=True)
