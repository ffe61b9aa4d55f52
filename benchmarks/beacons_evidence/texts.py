"""What the page says in words; every number that was measured is put in by `page`."""

from __future__ import annotations

TITLES = {
    "embedded": "Embedded: new facts for the model built here",
    "pararel": "ParaRel: new facts for a story model that knows others",
}

INTRO = """\
# Evidence: do filters and weights by semantic distance help?

Semantic Beacons drops training rows, and weighs the others, by how far the base's own answer is
from the target in meaning. What is tried here is our reconstruction of it: the paper's formulas are
not public to us. Wrong targets are injected into a share of the rows (half from the same relation,
half from another), so that there is something to find.

| filter | keeps |
| --- | --- |
| nearest | the 80 % with the smallest distance |
| band | rows with a distance of at most 0.9 |
| mean_variance | the 80 % with a small mean and a large spread of distances |
| interference | the 80 % whose gradient opposes the others' least |

A weighting gives far rows more weight, or near ones; by rows or by tokens; measured once or again
every 50 steps. Every arm of a method has the same learning rate: the one of a grid that learns most
by **the measure that is reported**, generalisation, in plain training, with seed 100, which no
result has. All take the same number of steps, so that fewer rows are seen more often. *Pushed away*
is the share of new facts whose answer is farther from the target after training than before.

What an arm forgets is compared **at equal learning only**. An arm that learns less forgets less,
and so does a lower learning rate, which costs nothing. So plain training and the two arms that the
guide names are trained at lower rates, too: each seed's trainings are a curve, what it forgot
against what it learned, and curves are compared where both have a value. The other arms have one
rate, and no verdict on forgetting.

*Forgotten* here is the share of known facts right before training less the share right after it.
Today's metric of that name counts what is lost of what was known, and gains apart.

All of it is made by

    python -m benchmarks.beacons_evidence --help""".split("\n")

HEADLINES = ("nearest", "near more", "nearest + near more", "far more", "interference")

RULES = """\
Mean difference in points, over tasks, rates of wrong targets (*some*: 10 and 30 %) and methods; in
brackets wins, losses and undecided: a win or a loss where the 95 % interval of the differences by
seed leaves out zero. A verdict needs three intervals: **supported** with more than half of them
wins and no loss, **contradicted** the other way round, **mixed** with both, **not supported**
otherwise. Intervals are not corrected for their number: one in twenty errs. In the tables at the
end what differs from plain training stands bold, but for the measures of forgetting.""".split("\n")

EQUAL = """\
Each seed's trainings of an arm, in the order of their learning rates up to the one that learns
most, are joined by straight lines. From the lowest to the highest level that both the arm's and
plain training's curve reach, the difference is taken at five levels and averaged; the interval is
over seeds. An arm with one rate, or with less than three seeds at others, has no line here.""".split("\n")

LOWER = """\
What weighing near rows more changes at plain training's learning rate, and what plain training does
at a lower one, by seed. Here learning is not equal: read both columns.""".split("\n")
NEAR = "near more"

LIMITS = """\
- Small models, few rows, one set of facts a task: the intervals cover seeds, not other data or
  models.
- Bases that do not know the new facts: a distance tells whether a target is of the right kind,
  hardly whether it is right. On a base that knows half of the facts, filters by distance could do
  better.
- One learning rate for all arms of a method, chosen in plain training. Weights change the size of
  steps, and an own rate might suit them better.
- Lower rates are trained for LoRA alone, and for a few arms: KaSA, FISH and the other arms have no
  verdict on forgetting.
- On the embedded task a rate between those of the grid learns as much and forgets less: all arms
  stand at a rate that is needlessly high.
- Five seeds: the intervals are wide, and many differences stay undecided.
- Learning rates come from 6e-4, 2e-3 and 6e-3; on the embedded task all methods took the largest,
  the grid's edge.
- `keep` and `alpha` were not tuned.""".split("\n")
