"""What the page says in words; every number that was measured is put in by `page`."""

from __future__ import annotations

from benchmarks.evidence.tables import Claim
from benchmarks.methods_evidence.arms import ARMS, FULL

TITLES = {
    "embedded": "Embedded: invented facts, a model of 3 layers",
    "pararel": "stories3m-facts: new ParaRel facts, a story model that knows others",
    "sst2": "SST-2: 2,000 reviews, all-MiniLM-L6-v2",
}
INTRO = """\
# Evidence: KaSA and SK-Tuning beside methods of their kind

[KaSA](guide/kasa.md) (Wang et al., [arXiv 2412.06071](https://arxiv.org/abs/2412.06071)) is held against
other adapters of equal rank, [SK-Tuning](guide/sk-tuning.md) (Prottasha et al.,
[arXiv 2410.08598](https://arxiv.org/abs/2410.08598)) against other virtual tokens of equal number. MiLoRA,
which KaSA's paper has as well, is not in PEFT.

All of it is made by

    python -m benchmarks.methods_evidence --help

What this page rests on:""".split("\n")

LEARNING = """\
Each arm at the learning rate that learns most with seed 100, which no result has. All adapters of a kind
begin with the same three rates; where the best is the lowest or the highest, the next one is tried, until
the best lies between two others (above stands where that is not done yet). Where seed 100 learns the same,
its best, at rates that are not neighbours, seed 101, which no result has either, trains at these rates and
decides among them. Until it does, the rate is *open*: the arm has no results here and is in no count below.
Forgetting at these rates is at unequal learning: the verdicts below are not.""".split("\n")

RULES = """\
Counted over tasks: a win or a loss where the 95 % interval of the differences by seed leaves out zero. A
verdict needs three intervals, and a task that no arm learns is in no count. **Learning** is compared at
each arm's chosen rate, **forgetting at equal learning only**: each seed's trainings are a curve over
learning rates, and two arms are compared where both have learned the same. Counts name what has no interval:
an arm that is not trained in three seeds, two arms without a common level of learning, an arm whose rate is
open.""".split("\n")

KASA = """\
KaSA's abstract says that it outperforms full fine-tuning and the other methods of its kind. Full fine-tuning
trains all weights, many times as many parameters as the adapters, so beside it nothing is equal but rows,
steps and the way its rate is chosen.""".split("\n")

SK = """\
SK-Tuning's abstract says that it performs better than other tuning methods, trains faster and needs fewer
parameters. The first is here; time and parameters are under costs.""".split("\n")

FULL_OPEN = """\
Full fine-tuning is not trained yet: this part of the claim is open.""".split("\n")

TRUNCATED = """\
PEFT's published comparison of methods (its MetaMathQA board) has KaSA at an accuracy of 0.459 with a
forgetting of 0.013: the loss on Wikipedia after training, less the loss before it with the adapter off.
PEFT's KaSA drops the smallest singular values of the base for good, so with the adapter off it is the
truncated base, while other methods are measured against the pristine one. Here both are measured: against
the pristine base, which is what a user had before, and against the truncated one. `text_drift` is the
board's measure on other text, in nats a token. The first line is the truncated base itself, before any
training.""".split("\n")

BOARD = [
    "- So the board's 0.013 leaves out what the truncation itself costs: a user, who had the pristine base, loses more "
    "wherever the truncated one reads worse, as both do here. It is not comparable with the numbers of methods that "
    "leave the base alone. How much is missing there depends on the board's base, which is not measured here."
]

CHEAPER = """\
SK-Tuning's abstract says that it trains faster and needs fewer parameters; KaSA stands beside. Ratios by
round of short trainings in which arms of a task take turns; a win is an interval below 1.""".split("\n")

COSTS = """\
Of short trainings in which arms of a task take turns, medians over five rounds: trainable parameters, CPU
time of a step, with the method's attaching left out, and the largest memory that model, gradients,
optimiser and activations take. Full fine-tuning has five rounds of its own, beside LoRA and KaSA.""".split("\n")

EQUAL = """\
Differences by seed, over levels of learning that both arms reach; never below what either learns at its
lowest rate. A pair without a line has no common level in three seeds, is not trained, or its rate is
open.""".split("\n")

LIMITS = """\
- Small models, few rows, one set of rows a task: intervals cover seeds, not other data or models.
- Neighbouring learning rates are a factor of 2 or 3 apart; seeds train at the chosen and the next lower one.
- On SST-2 one seed may stay at chance at a rate at which another learns, so one seed is a weak choice.
- Adapters are of equal rank; OFT has blocks of 64, which come nearest to LoRA's number of parameters.
- Virtual tokens are of equal number, while what is trained around them differs.
- PEFT has no MiLoRA. Prefix tuning is for the language models alone: PEFT's does not run on this encoder.
- SST-2 is trained for one epoch of 2,000 rows.""".split("\n")

KASA_CLAIMS = [
    *(Claim("KaSA", other, f"KaSA is better than {other}") for other in ("LoRA", "PiSSA", "DoRA", "OFT")),
    Claim("KaSA", FULL, f"KaSA is better than {FULL}"),
    Claim("KaSA", "PEFT's KaSA", "KaSA on a base that stays is better than PEFT's KaSA"),
]
PART_CLAIMS = [
    Claim("KaSA", "KaSA without truncation", "dropping the smallest singular values helps"),
    Claim("KaSA", "KaSA without singular values", "singular values of its own help"),
    Claim("KaSA", "KaSA without penalty on ds", "the penalty on the singular values helps"),
    Claim("KaSA", "KaSA without penalty on A and B", "the penalty on A and B helps"),
]
SK_CLAIMS = [
    *(
        Claim("SK prefix", other, f"SK prefix is better than {other}")
        for other in ("prefix tuning", "prefix tuning from text", "SK prefix, released", "LoRA")
    ),
    *(
        Claim("SK prompt", other, f"SK prompt is better than {other}")
        for other in ("prompt tuning", "prompt tuning from text", "p-tuning", "SK prompt, released")
    ),
    Claim("prompt tuning from text", "prompt tuning", "prompt tuning is better from text than from a random start"),
    Claim("prefix tuning from text", "prefix tuning", "prefix tuning is better from text than from a random start"),
]
CLAIMS = [*KASA_CLAIMS, *PART_CLAIMS, *SK_CLAIMS]
CHEAPER_PAIRS = [
    *(("SK prefix", other) for other in ("prefix tuning", "LoRA")),
    *(("SK prompt", other) for other in ("prompt tuning", "p-tuning", "LoRA")),
    *(("KaSA", other) for other in ("LoRA", "PiSSA", "DoRA", FULL)),
]
COST_HEADS = {"num_trainable": "trainable parameters", "cpu": "CPU time of a step", "memory": "peak memory"}
NAMES = {arm.name: arm.name for arm in ARMS}
