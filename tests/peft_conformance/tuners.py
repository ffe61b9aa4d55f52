"""The tuners that PEFT's suite is run over. A new one joins by one line in `TUNERS`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Tuner:
    """A PEFT type and how PEFT's tests shall configure it.

    Attributes:
        config: The config class, as `module:Class`.
        demands: Arguments without which the config cannot be made.
        variants: Further arguments, one mapping per way to run the suite; they must suit layers of a few entries.
            PEFT's tests choose layers of their own models; `target_modules` here is for those of transformers.
        layers: The kinds of layer that the tuner can adapt, keys of `cases.LAYERS`; none: it adapts whole models of
            transformers, and PEFT's tests on small models of their own are not for it.
        skips: Pattern found in a test's id -> why this tuner cannot pass it. Shown at the end of each run.
        own: Pattern of the ids of PEFT's tests of this very method, which run beside the tables, as they are.
    """

    config: str
    demands: Mapping[str, Any] = field(default_factory=dict)
    variants: tuple[Mapping[str, Any], ...] = ({},)
    layers: tuple[str, ...] = ("linear",)
    skips: Mapping[str, str] = field(default_factory=dict)
    own: str = ""

    @property
    def config_class(self) -> Any:
        """The config class; importing it registers the PEFT type."""
        module, _, name = self.config.partition(":")
        return getattr(import_module(module), name)

    @property
    def arguments(self) -> list[dict[str, Any]]:
        """All arguments of each variant."""
        return [{**self.demands, **variant} for variant in self.variants]


# The projections of attention, as the models of PEFT's tests call them.
_ATTENTION = ["q_proj", "v_proj", "q", "v", "query", "value", "query_proj", "value_proj", "in_proj", "c_attn"]

TUNERS = {
    "fish": Tuner(
        "knowtune:FishConfig",
        demands={"strategy": "random", "budget": 0.5},
        variants=(
            {"target_modules": _ATTENTION},
            {"strategy": "magnitude"},
        ),  # the second: every parameter is a candidate
        layers=("linear", "embedding", "conv1d", "convolution", "norm", "attention"),
        skips={
            r"test_from_peft_type": "a config without entries is refused; this test gives no arguments",
            r"test_prepare_for_training.*config_kwargs1": "asserts untrained embeddings; here every one is trained",
            r"layer_indexing.*config_kwargs1": "picks layers by their index, which needs named modules",
            r"feature_extraction.*test_training.*config_kwargs1": "its loss does not reach the pooler's parameters",
            r"(TokenClassif|QuestionAns).*config_kwargs1": "PEFT sets these heads aside after attaching adapters",
        },
    ),
    "sk_tuning": Tuner(
        "knowtune:SkTuningConfig",
        demands={"token_ids": [5, 9, 7]},
        variants=(
            {},
            {"variant": "prompt", "rank": 2},
            {"form": "released"},
            {"variant": "prompt", "form": "released"},
        ),
        layers=(),
        skips={
            r"test_from_peft_type": "a config without a text is refused; this test gives no arguments",
            r"test_encoder_decoder_models": "an encoder with a decoder is refused",
            r"merge": "it changes no weight, so nothing can be merged",
            r"gradient_checkpointing.*config_kwargs[02]": "refused for a prefix, which would be dropped",
            r"config_kwargs[02].*Deberta": "DeBERTa takes no keys and values, which a prefix is",
        },
    ),
    "kasa": Tuner(
        "tests.peft_conformance.kasa:KasaLora",
        layers=("linear", "conv1d"),
        skips={
            r"test_from_peft_type": "goes over every type without arguments, and our tuners' configs are refused so",
            r"test_disable_adapters(_with_merging)?\[": "asserts that a new adapter changes nothing; this cuts",
            r"test_parameters_after_loading_model.MLP linear 3": "its learning rate drives products of three to NaN",
            r"test_weighted_combination": "refused: PEFT combines A and B alone, and would leave ds at random",
            r"forward_compatible": "asserts the name of PEFT's own config class",
            r"EmbConv1D conv1d": "a weight with one output has no singular value to spare",
            r"test_kasa_truncation_changes_base_forward": "asserts that the disabled model is not the base; here it is",
            r"::test_lora_conversion\[": "no B A on the untouched base says what it computes; PEFT's KaSA refuses, too",
            r"test_kasa_mixing_with_non_kasa_adapter_raises": "asserts a refusal; here other adapters may stand beside",
        },
        own=r"(?i)kasa",
    ),
}

# PEFT's own, to tell a fault of the harness from one of a tuner: they pass upstream.
CONTROLS = {
    "shira": Tuner("peft:ShiraConfig", variants=({"r": 1},)),
    "lora": Tuner("peft:LoraConfig", layers=("linear", "embedding", "conv1d", "convolution", "attention")),
}
