"""What the page says in words; every number that was measured is put in by `page`."""

from __future__ import annotations

from benchmarks.evidence.tables import Claim

TASKS = {
    "embedded": "Embedded: new facts for the model built here",
    "pararel": "ParaRel: new facts for a story model that knows others",
    "cola": "CoLA: acceptable sentences, MiniLM",
    "sst2": "SST-2: good and bad reviews, MiniLM",
    "rte": "RTE: entailment, MiniLM",
}

PAIRS = (  # what is held against what, by seed
    ("fish", "random"),
    ("fish", "random-linear"),
    ("fish-linear-even", "random-linear-even"),
    ("fish-linear-even", "random-linear"),
    ("fish-even", "random"),
    ("ird", "random"),
    ("ird", "fish"),
    ("magnitude", "random"),
    ("random", "lora"),
    ("fish", "lora"),
    ("ird", "lora"),
    ("fish-even", "fish"),
    ("fish-even", "lora"),
    ("fish-linear-even", "lora"),
    ("random-linear", "random"),
    ("random-linear-even", "random-linear"),
    ("random-linear", "lora"),
    ("random-linear-even", "lora"),
    ("lora-ird", "lora"),
    ("lora-ird", "lora-same"),
    ("lora-same", "lora"),
    ("lora-ird-even", "lora"),
    ("lora-ird-even", "lora-same"),
)
HEADLINES = (
    ("fish", "random"),
    ("fish", "random-linear"),
    ("fish-linear-even", "random-linear-even"),
    ("ird", "random"),
    ("ird", "fish"),
    ("fish", "lora"),
    ("ird", "lora"),
    ("random-linear", "lora"),
    ("lora-ird", "lora-same"),
)
CLAIMS = (
    Claim("fish", "random", "FISH's mask beats a random mask", "all rows"),
    Claim("fish", "random-linear", "FISH's mask beats a random mask of the linear layers", "all rows"),
    Claim("fish-linear-even", "random-linear-even", "FISH beats random, in equal shares of linear layers", "all rows"),
    Claim("fish-even", "random", "FISH with equal shares of every tensor beats a random mask", "all rows"),
    Claim("ird", "random", "IRD's mask beats a random mask", "all rows"),
    Claim("ird", "fish", "IRD's mask beats FISH's", "all rows"),
    Claim("ird", "random", "IRD's mask and rows beat random ones", "128 rows"),
    Claim("ird", "fish", "IRD's mask and rows beat FISH's mask and random rows", "128 rows"),
    Claim("lora-ird", "lora", "for LoRA, IRD's rows beat random rows", "128 rows"),
    Claim("lora-ird", "lora-same", "for LoRA, IRD's rows beat random rows of the same relations", "128 rows"),
    Claim("lora-same", "lora", "for LoRA, random rows of IRD's relations beat random rows", "128 rows"),
    Claim("lora-ird-even", "lora", "for LoRA, IRD's rows in proportion to relations beat random rows", "128 rows"),
    Claim("magnitude", "random", "the largest weights beat a random mask", "all rows"),
    Claim("random", "lora", "a random mask beats LoRA", "all rows"),
    Claim("fish", "lora", "FISH beats LoRA", "all rows"),
    Claim("ird", "lora", "IRD beats LoRA", "all rows"),
    Claim("fish-even", "fish", "equal shares of every tensor beat FISH's global choice", "all rows"),
    Claim("random-linear", "random", "a random mask of linear layers beats one of all parameters", "all rows"),
    Claim("random-linear", "lora", "a random mask of linear layers beats LoRA", "all rows"),
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

Each has controls that differ in one thing alone, tried at one budget or a few:

| control | differs |
| --- | --- |
| *FISH, equal shares* | the same share of every tensor (`granularity: parameter`), where FISH chooses globally |
| *random, linear layers* | random selection among what LoRA changes, too |
| *FISH, linear layers, equal shares* | the default's `fish`: the same share of every linear layer |
| *random, linear layers, equal shares* | its control: same layers, same shares, chosen randomly |
| *LoRA, IRD's rows* | LoRA on the 128 rows that IRD chose |
| *LoRA, random rows of IRD's relations* | its control: random rows, as many of each relation as IRD chose |
| *LoRA, IRD's rows in proportion to relations* | rows of an IRD that prefers no relation (`stratify: relation`) |

All but LoRA train with the sparse tuner (method `fish`). The budget is LoRA's number of trainable
parameters at a rank, a classifier's head included, and every arm meets it exactly. Every training
of a task takes the same optimiser steps, on *all rows* or on the selection's *128 rows*. A
selection has its run's seed, so the noise of a random mask is part of the intervals. Differences
are taken seed by seed.

Four rules decide what counts:

1. An arm's learning rate is the one of a common grid that learns most by **the measure that is
   reported**, with seed 100, which no result has; then seeds 0 to 4 train.
2. Learning is compared at these rates. **Forgetting is compared at equal learning only**: each
   seed's trainings at several rates are a curve, what it lost against what it learned, and two arms
   are compared where both curves have a value, never below what an arm learns at its lowest rate.
3. A task that **no arm learns** is in no count.
4. A claim rests on **at least three comparisons** (task, budget, rows); each is a win, a loss or
   undecided.

*Forgotten* here is the share of known facts right before training less the share right after it.
Today's metric of that name counts what is lost of what was known, and gains apart.

All of it is made by

    python -m benchmarks.selection_evidence --help""".split("\n")


PLANE = """\
Large marks: mean and 95 % interval over seeds, at every learning rate with three of them or more.
Small marks: rates that the grid's one seed alone was trained with.""".split("\n")

EQUAL = """\
A higher learning rate learns more and forgets more, so what arms forget at their chosen rates may
say something of the rates alone. Here each seed's trainings, in the order of their rates up to the
one that learns most, are joined by straight lines. From the lowest to the highest level that both
of a seed's curves reach, the difference is taken at five levels and averaged. The interval is over
seeds; the levels are means over seeds, in the measure of learning. With two arms that each have one
rate there is nothing to compare.""".split("\n")

TRAINED = """\
Which of the differences above can be taken. One of learning needs three seeds of both arms at their
chosen rates, one of forgetting rates between which both learn the same. The command trains what is
left where `benchmarks/selection_evidence/parts.py` names it.""".split("\n")

RULES = """\
*Win*: the 95 % interval of the differences by seed lies wholly on the claim's side; *loss*: wholly
on the other; else *undecided*. *Not trained*: fewer than three seeds, or one rate alone.
*Without a common level*: trained, but the arms share no level of learning. A claim is **supported**
where it has at least three intervals, more than half of them wins, and no loss; **contradicted** the
other way round; **mixed** with wins and losses; **not supported** otherwise. With less than three
intervals nothing is concluded. Intervals are not corrected for their number: one in twenty errs. The
budgets of one task share its data, so three comparisons are fewer than three tasks.""".split("\n")

COSTS = """\
CPU seconds of one thread, of the fastest training. *Selection* comes on top of the training, once for
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
- Learning rates are chosen with one seed, on the evaluation examples; the 128-row comparisons take
  the rates chosen for all rows. *(edge)* marks a chosen rate at the end of the grid.
- Not every rate is trained with every seed: the rates are there between which two arms learn the
  same. Where that is not done yet, the page says so.
- Times are CPU time on machines that others used as well.
- AdamW, cosine schedule with a tenth of the steps as warm-up, no weight decay, clipping at 1.""".split("\n")

LIMITS = """\
- Small models, few rows, one set of facts a task: the intervals cover seeds, not other data or
  models.
- IRD's and magnitude's masks are deterministic where the base has its own head; their spread is
  training's alone.
- The random selection draws from all parameters, embeddings included: in MiniLM half of a random
  mask lies on word embeddings, most of them of words that no row has. *random, linear layers* is
  the harder opponent, where it was tried.
- A chosen rate at the edge of the grid may not be the best one. Rates lie a factor of about three
  apart, and between them a curve is a straight line.
- A classifier's new head is random. It takes part in the scoring, and the run trains another one
  where its seed is not the selection's. Here both seeds are the same.
- IRD is our reading of a paper whose code and settings are not public; see
  `knowtune/selectors/ird.py`.""".split("\n")
