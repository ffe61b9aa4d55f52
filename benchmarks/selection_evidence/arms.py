"""The arms: who chooses parameters, who chooses rows, and what the page calls them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from knowtune.selectors.base import Selector
from knowtune.selectors.fish import Fish
from knowtune.selectors.ird import Ird
from knowtune.selectors.magnitude import Magnitude
from knowtune.selectors.random import Random

LINEAR = "*_proj.weight"  # of a Llama
MASKS: dict[str, Callable[..., Selector]] = {  # arms that train a mask -> its selector, less budget and samples
    "random": Random,
    "magnitude": Magnitude,
    "fish": Fish,
    "ird": partial(Ird, rounds=4),
    "fish-even": partial(Fish, granularity="parameter"),
    "random-linear": partial(Random, pattern=LINEAR),
    "fish-linear-even": partial(Fish, pattern=LINEAR, granularity="parameter"),
    "random-linear-even": partial(Random, pattern=LINEAR, granularity="parameter"),
    "ird-even": partial(Ird, rounds=4, stratify="relation"),
}
ARMS = ("lora", "random", "magnitude", "fish", "ird")
VARIANTS = ("fish-even", "random-linear", "fish-linear-even", "random-linear-even")
SAME_RELATIONS = "lora-same"
LIKE_LORA = {  # arms that train LoRA at LoRA's learning rate -> the selection whose rows they take
    "lora-ird": "ird",
    SAME_RELATIONS: "random",  # within each relation, as many as IRD chose
    "lora-ird-even": "ird-even",
}
EVERY = (*ARMS, *VARIANTS, *LIKE_LORA)
NAMES = {
    "lora": "LoRA",
    "random": "random",
    "magnitude": "magnitude",
    "fish": "FISH",
    "ird": "IRD",
    "fish-even": "FISH, equal shares",
    "random-linear": "random, linear layers",
    "fish-linear-even": "FISH, linear layers, equal shares",
    "random-linear-even": "random, linear layers, equal shares",
    "ird-even": "IRD, rows in proportion to relations",
    "lora-ird": "LoRA, IRD's rows",
    "lora-same": "LoRA, random rows of IRD's relations",
    "lora-ird-even": "LoRA, IRD's rows in proportion to relations",
}
