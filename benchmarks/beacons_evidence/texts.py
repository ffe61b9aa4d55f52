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
every 50 steps. Every arm of a method has the same learning rate, chosen on validation rows in plain
training, and the same number of steps, so that fewer rows are seen more often. *Pushed away* is the
share of new facts whose answer is farther from the target after training than before.

*Forgotten* here is the share of known facts right before training less the share right after it.
Today's metric of that name, made after these runs, counts what is lost of what was known, and gains
apart.

All of it is made by

    python -m benchmarks.beacons_evidence --help""".split("\n")

RULES = """\
Mean difference in points, over tasks, rates of wrong targets (*some*: 10 and 30 %) and methods; in
brackets how often it is *better*, *worse* and *open*: better or worse where the 95 % interval of
the differences by seed leaves out zero. Intervals are not corrected for their number: one in twenty
errs. In the tables below such a number is bold.""".split("\n")

LIMITS = """\
- Small models, few rows, one set of facts a task: the intervals cover seeds, not other data or
  models.
- Bases that do not know the new facts: a distance tells whether a target is of the right kind,
  hardly whether it is right. On a base that knows half of the facts, filters by distance could do
  better.
- One learning rate for all arms of a method. Weights change the size of steps, and an own rate
  might suit them better.
- Five seeds: the intervals are wide, and many differences stay open.
- Learning rates come from 6e-4, 2e-3 and 6e-3; on the embedded task all methods took the largest,
  the grid's edge.
- `keep` and `alpha` were not tuned.""".split("\n")
