"""What the page says in words; every number that was measured is put in by `page`."""

from __future__ import annotations

from benchmarks.evidence.tables import Claim
from benchmarks.preserve_evidence.arms import PRESERVE, WHOLE

TITLES = {
    "embedded": "Embedded: new facts for the model built here",
    "stories3m-facts": "ParaRel: new facts for a story model that knows others",
}

INTRO = """\
# Evidence: what keeps a model from forgetting?

A run's `preserve` can replay what the base knew, hold the tuned model's distribution to the base's
(distillation), and hold its weights (an anchor); a selection can protect the parameters that carry
what the base knew; a mixture can go back towards the base after training. Here each of them is held
against training without, against the others, and against what costs nothing: a lower learning rate,
fewer epochs.

| name | what is done |
| --- | --- |
| replay | known facts that do not measure, half a row for each row of a step, with a loss of their own |
| self | distillation on sequences that the base wrote: no data |
| text, known | distillation on general text, on known facts |
| distil both (twice) | distillation on the replayed rows and on the base's sequences (of weight 2) |
| more replay | a row for each row of a step, and half as many of the base's sequences |
| l2 | an anchor of all weights alike |
| ewc (firm, strong) | an anchor by Fisher information about the base's own sequences (three, ten times as strong) |
| 3 averaged | the mean of three models, trained alike but for the seed: a mixture with `seeds: all` |
| protected | a mask that leaves out the entries with the most Fisher information about what must stay |

Known facts are split by fact: half of them may be replayed, and *forgotten* is measured on the other
half alone, which nothing is trained on, distilled on or generated from. Sequences of the base that
quote a measured fact are dropped. The alpha of a mixture is chosen on a fifth of the first half, which
is not replayed either: a row that was replayed is right at any alpha.

All of it is made by

    python -m benchmarks.preserve_evidence --help

What this page rests on:""".split("\n")

TARGETS = """\
Each arm at the learning rate, of those tried, that learns most with seed 100, which no result has; a
mixture at the alpha that its own rule chooses. Plain LoRA may learn more at another rate by the means
over seeds than at its chosen one: differences stand beside both. *Reached* is by the means and beside
its best, the stricter of the two; *at R* names other rates at which the means reach it, seen with the
results in view.""".split("\n")

RULES = """\
Counted over tasks and methods: a win or a loss where the 95 % interval of the differences by seed
leaves out zero. A verdict needs three intervals. **Learning** is compared at each arm's chosen rate,
**forgetting at equal learning only**: each seed's trainings are a curve over learning rates (of a
mixture over alpha), and two arms are compared where both have learned the same. So a lower learning
rate, which forgets less because it learns less, is no merit here. Intervals are not corrected for
their number: one in twenty errs. The methods of one task share its data, so three comparisons are fewer
than three tasks.""".split("\n")

SWITCH = """\
All three parts together, less one. More forgotten without it speaks for a part, more learned against
it.""".split("\n")

RIVALS = """\
A lower learning rate is in every comparison above: it is plain training's curve. What else needs no
preservation: fewer epochs, the epoch with the lowest validation loss, weights by the base's loss
(FLOW), and mixtures of the trained model with its base, over alpha.""".split("\n")

AVERAGES = """\
Trainings that differ by their seed alone (order, replayed rows, an adapter's random start) are averaged
weight by weight ([model soups](https://arxiv.org/abs/2203.05482)). Three cost three times as much; the
model that comes out costs what one does. Beside it stands the first of the three, at the same rate:
differences by seed.""".split("\n")

MASKS = """\
A tenth of all parameters is trained, of a wide mask three tenths: random ones, those with the most
Fisher information on the new rows (FISH), or the largest. Protected are the shares of entries with the
most Fisher information about what must stay, taken on 512 of the base's own sequences and 200 known
rows at most (a selection takes all unless `samples` says how many); *contrast* ranks by the ratio of
both instead.""".split("\n")

PREDICTS = """\
Rank correlations with what is forgotten, over all trainings of a task. *Between*: of the arms' means.
*Within*: of what a training lies above its arm's mean rank, so over learning rates and seeds. What is
learned stands beside it, for a training that learns more forgets more.""".split("\n")

COSTS = """\
Medians over an arm's trainings: CPU seconds, what is needed before the first step (weights of rows,
masks, the sources), and the largest memory that model, gradients, optimiser and activations take.
What the base writes is written once for all runs and in no number. Beside plain training, of a mask
beside a random one.""".split("\n")

EQUAL = """\
Differences by seed, over levels of learning that both arms reach; never below what either learns at
its lowest rate. A pair without a line has no common level in three seeds, or is not trained.""".split("\n")

LIMITS = """\
- Two small models, few rows, one set of facts a task: intervals cover seeds, not other data or models.
- Weights and shares of the parts were tried on a few settings, not searched; a learning rate comes
  from two to five, and may lie at the grid's edge.
- What preserves is trained at two learning rates alone, so that its curves are short.
- Facts that are replayed have the templates of those that measure; `self` and `ewc` read no such rows.
- Seconds are of one thread on a machine that did other work as well. What ran on 16 cores ran with
  torch 2.11 and Python 3.12; costs stand beside those of plain training on the same machine.""".split("\n")

NAMES = {parts: parts for parts in PRESERVE}
_PARTS = {
    "replay": "replay alone",
    "self": "distillation on its own sequences alone",
    "text": "distillation on general text alone",
    "known": "distillation on known facts alone",
    "l2": "an anchor alone",
    "ewc": "an anchor by Fisher information alone",
    "replay + self": "replay and distillation on its own sequences",
    "replay + distil both": "replay and distillation on both",
    "replay + ewc": "replay and an anchor by Fisher information",
    "self + ewc": "distillation and an anchor by Fisher information",
    WHOLE: "all three",
}
_HALF = "random, 50% protected, self"
CLAIMS: dict[str, list[Claim]] = {
    "parts": [
        *(Claim(name, "plain", f"{text} is better than none") for name, text in _PARTS.items()),
        Claim("self", "text", "what the base wrote serves better than general text"),
        Claim("replay", "self", "replay is better than distillation without data"),
        Claim("replay + distil both", "replay", "distillation adds to replay"),
        Claim("replay + distil both", "self", "data add to distillation without data"),
        Claim("ewc", "l2", "Fisher information makes a better anchor"),
        Claim("ewc", "self", "an anchor by Fisher information is better than distillation without data"),
    ],
    "rivals": [
        *(
            Claim(name, "plain", f"{name} is better than a lower learning rate")
            for name in ("half of the epochs", "best epoch", "FLOW")
        ),
        Claim("plain, interpolated", "plain", "interpolation is better than a lower learning rate"),
        Claim("plain, LiNeS", "plain", "LiNeS is better than a lower learning rate"),
        Claim("plain, LiNeS", "plain, interpolated", "LiNeS is better than interpolation"),
        Claim("plain, interpolated", "self", "interpolation is better than distillation without data"),
    ],
    "masks": [
        Claim(_HALF, "random", "protection helps random masks, without data"),
        Claim("fish, 50% protected, self", "fish", "protection helps FISH, without data"),
        Claim("magnitude, 50% protected, self", "magnitude", "protection helps the largest weights, without data"),
        Claim("random, 50% protected, self + known", _HALF, "known facts add to protection"),
        Claim("random, 30% protected, self", _HALF, "30 % is better than half"),
        Claim("fish", "random", "FISH is better than random"),
        Claim("fish, contrast", "random", "contrast is better than random"),
        Claim(_HALF + " + self", _HALF, "distillation adds to protection"),
        Claim(_HALF + " + replay + distil both", _HALF, "replay and distillation add to protection"),
    ],
}
NAMES |= {arm: arm for of in CLAIMS.values() for claim in of for arm in (claim.one, claim.other)}
