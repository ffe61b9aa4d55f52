"""The filter that drops what rules alone can see: empty, said twice, contradicting itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from knowtune.families import Filter

if TYPE_CHECKING:
    import pandas as pd

    from knowtune.families import Seen


class Clean(Filter):
    """Drop rows by rules. It sees no wrong target that nothing contradicts.

    Of duplicates (same prompt and target, blanks and case aside) the first stays. Of a contradiction (same prompt,
    several targets) every row goes, unless one target has at least `majority` of the rows: then the others go.
    """

    empty: bool = Field(default=True, description="drop rows without a target")
    duplicates: bool = Field(default=True, description="drop all but the first of equal rows")
    contradictions: bool = Field(default=True, description="drop rows of one prompt with several targets")
    majority: float = Field(
        default=1.0, gt=0.5, le=1, description="share of a prompt's rows that settles a contradiction"
    )

    def reasons(self, rows: pd.DataFrame, seen: Seen) -> pd.Series[str]:
        """Name the first rule that a row breaks."""
        import pandas as pd

        reasons = pd.Series("", index=rows.index, dtype="str")
        prompt, target = _plain(rows["prompt"] + " ␟ " + rows["text_pair"]), _plain(rows["target"])
        if self.empty:
            reasons[target == ""] = "empty: the target has no text"
        open_rows = reasons == ""
        if self.contradictions:
            open_pairs = pd.DataFrame({"prompt": prompt, "target": target})[open_rows]
            num_targets = open_pairs.groupby("prompt")["target"].transform("nunique")
            share = open_pairs.groupby(["prompt", "target"])["target"].transform("size") / open_pairs.groupby("prompt")[
                "target"
            ].transform("size")
            against = num_targets.index[(num_targets > 1) & ((share < self.majority) | (share <= 0.5))]
            reasons[against] = "contradiction: this prompt has " + num_targets[against].astype(str) + " targets"
        if self.duplicates:
            first = pd.DataFrame({"prompt": prompt, "target": target, "id": rows["id"]})[reasons == ""]
            first_id = first.groupby(["prompt", "target"])["id"].transform("first")
            again = first.index[first_id != first["id"]]
            reasons[again] = "duplicate: of " + first_id[again]
        return reasons


def _plain(text: pd.Series[str]) -> pd.Series[str]:
    """Fold case and blanks, so that rows that read the same are the same."""
    return text.str.casefold().str.split().str.join(" ")
