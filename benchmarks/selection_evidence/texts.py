"""What the page says in words; every number that was measured is put in by `page`."""

from __future__ import annotations

from benchmarks.selection_evidence.results import ROWS_ALONE

TASKS = {
    "embedded": "Embedded: new facts for the model built here",
    "pararel": "ParaRel: new facts for a story model that knows others",
    "cola": "CoLA: acceptable sentences, MiniLM",
    "sst2": "SST-2: good and bad reviews, MiniLM",
    "rte": "RTE: entailment, MiniLM",
}

CLAIMS = (  # one arm, the other, on which rows, what is claimed if the one is better
    ("fish", "random", "all", "FISH's mask beats a random mask"),
    ("ird", "random", "all", "IRD's mask beats a random mask"),
    ("ird", "fish", "all", "IRD's mask beats FISH's"),
    ("ird", "random", "chosen", "IRD's mask and rows beat random ones"),
    ("ird", "fish", "chosen", "IRD's mask and rows beat FISH's mask and random rows"),
    (ROWS_ALONE, "lora", "chosen", "for LoRA, IRD's rows beat random rows"),
    ("magnitude", "random", "all", "the largest weights beat a random mask"),
    ("random", "lora", "all", "a random mask beats LoRA"),
    ("fish", "lora", "all", "FISH beats LoRA"),
    ("ird", "lora", "all", "IRD beats LoRA"),
    ("fish-even", "fish", "all", "equal shares of every tensor beat FISH's global choice"),
    ("random-linear", "random", "all", "a random mask of linear layers beats one of all parameters"),
)


def intro() -> list[str]:
    """State the question, and how it was tested."""
    return """\
# Evidence: is Fisher information better than a random selection?

The FISH mask trains the parameters with the highest Fisher information; IRD also chooses the rows
by it, in rounds. Does that beat a random selection of **the same number of trained parameters**,
does it beat LoRA, and what does it cost?

| arm | parameters by | rows by |
| --- | --- | --- |
| LoRA | low-rank changes of all linear layers, alpha = 2 x rank | random selection |
| random | random selection among all parameters | random selection |
| magnitude | largest absolute weight | random selection |
| FISH | Fisher information over 128 random rows | random selection |
| IRD | Fisher information in 4 rounds that shrink parameters and rows | Fisher information, down to 128 |
| *FISH, equal shares* | as FISH, but the same share of every tensor (`granularity: parameter`) | random selection |
| *random, linear layers* | random selection among what LoRA changes, too | random selection |
| *LoRA, IRD's rows* | as LoRA, with LoRA's learning rate | IRD |

The last three are variants, tried at one budget. All but LoRA train with the sparse tuner (method
`fish`). The budget is LoRA's number of trainable parameters at a rank, a classifier's head
included, and every arm meets it exactly. Every training of a task takes the same optimiser steps,
on *all rows* or on the selection's *128 rows*. Each arm chooses its learning rate from one common
grid on validation rows, with a seed that no result has; then five seeds train. A selection has its
run's seed, so the noise of a random mask is part of the intervals. Differences are taken seed by
seed.

*Forgotten* here is the share of known facts right before training less the share right after it.
Today's metric of that name, made after these runs, counts what is lost of what was known, and gains
apart.

All of it is made by

    python -m benchmarks.selection_evidence --help""".split("\n")


PLANE = """\
Large marks: mean and 95 % interval over seeds at the chosen learning rate. Small marks: the grid's
trainings, one seed, joined in the order of their learning rates: what an arm could have had at
another rate.""".split("\n")

EQUAL = """\
A higher learning rate learns more and forgets more, so the arms' chosen rates may compare different
things. Here is what each arm loses at one common level of learning, nine tenths of the worst arm's
best: read off its trainings at all rates of the grid, between two rates by a straight line, from
the base on. With one seed it is a description, no test. A task that some arm does not learn at all
has no such level.""".split("\n")

RULES = """\
Counted over the comparisons below (task, budget, rows). *for*: the 95 % interval of the differences
by seed lies wholly on the claim's side; *against*: wholly on the other; else *open*. A claim is
**supported** where more than half of its comparisons are for it and none against, **contradicted**
the other way round, **mixed** with both kinds, and **not supported** otherwise. Intervals are not
corrected for their number: one in twenty errs.""".split("\n")

COSTS = """\
CPU seconds of one thread, medians over seeds. *Selection* comes on top of the training, once for
all learning rates and both kinds of rows; the last column holds both together against LoRA's
training.""".split("\n")

CUTS = """\
Cut, for all arms alike, so that the whole fits on two shared cores:

- ParaRel: 300 new facts in two paraphrases each, 4 epochs; 400 known facts. Embedded: 300 new
  facts, 6 epochs.
- GLUE: 2,000 rows of at most 64 tokens (RTE has only 1,433 of them), 2 epochs, one budget; 200
  validation rows, at most 400 evaluation examples. IRD starts from 256 random rows.
- GLUE's trainings multiply matrices in bfloat16 and add up in float32: 25 s instead of 43 s of CPU
  for LoRA on CoLA, one run each on a busy machine, with 69.5 % right and a loss of 0.6156 either
  way. For no other arm was that compared. Scoring and judging are in float32.
- Learning rates are chosen with one seed, by the loss on validation rows (of facts: other
  paraphrases than those that are trained or tested); the 128-row comparisons take the rates chosen
  for all rows. *(edge)* marks a chosen rate at the end of the grid.
- CoLA and RTE are learned by no arm: all stay at chance, so they say something of forgetting alone.
- Times are CPU time on a machine that others used as well.
- AdamW, cosine schedule with a tenth of the steps as warm-up, no weight decay, clipping at 1.""".split("\n")

LIMITS = """\
- Small models, few rows, one set of facts a task: the intervals cover seeds, not other data or
  models.
- IRD's and magnitude's masks are deterministic where the base has its own head; their spread is
  training's alone.
- The random selection draws from all parameters, embeddings included: in MiniLM half of a random
  mask lies on word embeddings, most of them of words that no row has. *random, linear layers* is
  the harder opponent, where it was tried.
- Equal learning is read off between rates that lie a factor of three or more apart; a finer grid
  would say it better.
- Where chosen rates differ, a difference in forgetting may be the rate's: one seed's validation
  loss chose them.
- An arm that learns more often forgets more: a higher learning rate does both. The first figure
  shows what each arm could have had at other rates; the verdicts compare at the rates that
  validation chose, which sees learning alone.
- IRD is our reading of a paper whose code and settings are not public; see
  `knowtune/selectors/ird.py`.""".split("\n")
