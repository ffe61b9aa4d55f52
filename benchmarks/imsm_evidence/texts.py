"""What the page says in words; every number that was measured is put in by `page`."""

from __future__ import annotations

from benchmarks.evidence.tables import Claim
from benchmarks.imsm_evidence.arms import BOTH, FAST, METHODS, MORE
from benchmarks.preserve_evidence.goals import Goal

FAST_GATE = "woven, fast gate"

INTRO = f"""\
# Evidence: do two woven memories keep what was known?

IMSM trains an adapter, and a gate that says for every token and every dimension of its state how much of
the base is heard (Song et al., [arXiv 2412.17383](https://arxiv.org/abs/2412.17383)). The paper reports
better learning, less forgetting, and comparable time. Here adapters are trained alone and woven, on facts
that are new to the base, beside facts that it knows and that nothing is trained on.

| name | what is done |
| --- | --- |
| plain | the adapter alone |
| woven | with the base by the paper's gate of rank 8, learned at 0.001 as in the authors' code |
| woven, fast gate | the gate learned at {FAST} |
| without query, without gate | the paper's two ablations: the gate reads the token alone; 0.5 everywhere |
| {BOTH} | `preserve`: known facts replayed, distillation on them and on what the base wrote |
| {MORE} | with twice the replay, and half of the distillation |

Measured, replayed and trained facts are as in [the evidence on preservation](evidence-preserve.md).

All of it is made by

    python -m benchmarks.imsm_evidence --help

What this page rests on:""".split("\n")

TARGETS = """\
Each arm at the learning rate, of those tried, that learns most with seed 100, which no result has.
Plain LoRA may learn more at another rate by the means over seeds: differences stand beside both. *Reached*
is by the means and beside its best; *at R* names other rates at which the means reach it, seen with the
results in view.""".split("\n")

RULES = """\
Counted over tasks and inner methods: a win or a loss where the 95 % interval of the differences by seed
leaves out zero. A verdict needs three intervals. **Learning** is compared at each arm's chosen rate,
**forgetting at equal learning only**: each seed's trainings are a curve over learning rates, and two arms
are compared where both have learned the same.""".split("\n")

PAPER = """\
The paper reports that woven adapters learn better, forget less, and take comparable time and space. It
leaves the gate's learning rate to the optimiser's default, 0.001; a faster gate is ours.""".split("\n")

TIME_AND_SPACE = """\
Time and space of training, woven beside alone: ratios by seed, of trainings on the same machine; a loss is
an interval above 1, and what is comparable the paper leaves open. The paper's generation runs the two memories
on two devices; `benchmarks/imsm.py` measures one device: [the guide](guide/imsm.md) has its numbers.""".split("\n")

GATES = """\
The gate where the target of a fact is told, new (in other templates than the trained ones) or known and
not trained, and in general text: its mean over tokens, and quantiles of that over the dimensions of the
state. 1 is the base alone, 0 the tuned model alone. A gate that told new from known would be lower where
the new is told: *tells known from new* is the area under the ROC curve of the mean gate over an answer,
0.5 by chance, 1 if every known fact hears more of the base than every new one. Means over all finished
seeds at the chosen rate.""".split("\n")

COSTS = """\
Medians over an arm's trainings: CPU seconds, what is needed before the first step, and the largest memory
that model, gradients, optimiser and activations take.""".split("\n")

EQUAL = """\
Differences by seed, over levels of learning that both arms reach; never below what either learns at its
lowest rate. A pair without a line has no common level in three seeds, or is not trained.""".split("\n")

LIMITS = """\
- Two small models, few rows, one set of facts a task: intervals cover seeds, not other data or models.
- The paper's models have 4 to 8 billion parameters and its tasks are others.
- A learning rate comes from two or three, and may lie at the grid's edge; the gate's from two.""".split("\n")

CLAIMS = [
    Claim("woven", "plain", "a woven adapter is better than the adapter alone"),
    Claim(FAST_GATE, "plain", "woven by a fast gate it is"),
    Claim(FAST_GATE, "woven", "a fast gate is better than the paper's"),
    Claim(FAST_GATE, "woven, fast gate without query", "the query adds to the gate"),
    Claim(FAST_GATE, "woven, without gate", "a learned gate is better than half and half"),
    Claim(FAST_GATE, "plain, interpolated", "weaving is better than interpolation, which costs no training"),
    Claim(BOTH, FAST_GATE, "preservation is better than weaving"),
    Claim(f"{FAST_GATE} + {BOTH}", BOTH, "weaving adds to preservation"),
]
PAPER_CLAIMS = [claim for claim in CLAIMS if claim.other == "plain"]
DRAWN = ["lora: woven", f"lora: {FAST_GATE}", f"lora: {FAST_GATE} + {BOTH}"]  # arms whose gates are drawn
COST_PAIRS = [(f"{inner}: {gate}", f"{inner}: plain") for inner in METHODS for gate in ("woven", FAST_GATE)]
COST_HEADS = {"cpu": "CPU seconds of training", "memory": "peak memory of training"}
TARGET = {"stories3m-facts": Goal(0.015, 0.015)}  # what weaving is asked for, alone or with preservation
NAMES = {arm: arm for claim in CLAIMS for arm in (claim.one, claim.other)}
