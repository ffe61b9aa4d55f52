"""Our rows for the tables over which PEFT's tests are parametrised."""

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

from tests.peft_conformance.tuners import Tuner

Row = Any  # what one parametrisation of a test takes: a tuple, a config or a class
Rows = Callable[[Tuner], list[Row]]

# Kind of layer -> (model of PEFT's test_custom_models.py, arguments that select such layers). conv1d is that of GPT-2.
LAYERS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "linear": [
        ("MLP", {"target_modules": "lin0"}),
        ("MLP", {"target_modules": ["lin0"]}),
        ("MLP", {"target_modules": ["lin1"]}),
        ("MLP", {"target_modules": ["lin0", "lin1"]}),
        ("MLP", {"target_modules": ["lin0"], "modules_to_save": ["lin1"]}),
    ],
    "embedding": [("EmbConv1D", {"target_modules": ["emb"]})],
    "conv1d": [("EmbConv1D", {"target_modules": ["conv1d"]})],
    "convolution": [
        ("Conv1d", {"target_modules": ["conv1d"]}),
        ("Conv2d", {"target_modules": ["conv2d"]}),
        ("Conv2d", {"target_modules": ["conv2d", "lin0"]}),
        ("Conv2dGroups", {"target_modules": ["conv2d"]}),
        ("Conv3d", {"target_modules": ["conv3d"]}),
    ],
    "norm": [
        ("MLP_LayerNorm", {"target_modules": ["layernorm0"]}),
        ("MLP_LayerNorm", {"target_modules": ["layernorm0", "lin0"]}),
    ],
    "attention": [("MHA", {"target_modules": ["mha"]}), ("MHA", {"target_modules": ["mha", "lin0"]})],
}


def init_flag(tuner: Tuner) -> str:
    """Return the name of the argument that makes an untrained adapter change nothing."""
    names = [field.name for field in fields(tuner.config_class)]
    return next(name for name in names if name.startswith("init_") and name.endswith("weights"))


def custom(tuner: Tuner) -> list[Row]:
    """Rows of (name, model, config class, arguments) for the small models of test_custom_models.py."""
    return [
        (f"{model} {kind} {number}", model, tuner.config_class, {**variant, **selected})
        for variant in tuner.arguments
        for kind in tuner.layers
        for number, (model, selected) in enumerate(LAYERS[kind])
    ]


def on_layers(rows: Rows) -> Rows:
    """Leave out tuners that adapt no layers: PEFT's small models are layers and nothing else."""

    def of_layers(tuner: Tuner) -> list[Row]:
        return rows(tuner) if tuner.layers else []

    return of_layers


def pairs(tuner: Tuner) -> list[Row]:
    """Rows of two adapters in one model, on the same layer and on different ones."""
    flag = {init_flag(tuner): False}
    return [
        (
            f"{name} {number}",
            tuner.config_class.__name__.lower(),
            tuner.config_class,
            {**variant, **flag, "target_modules": ["lin0"]},
            {**variant, **flag, "target_modules": [second]},
        )
        for number, variant in enumerate(tuner.arguments)
        for name, second in (("same", "lin0"), ("different", "lin1"))
    ]


def classes(tuner: Tuner) -> list[Row]:
    """The config class alone, or what makes its configs where it demands arguments."""
    if not tuner.demands:
        return [tuner.config_class]
    maker: Any = partial(tuner.config_class, **tuner.demands)
    maker.from_pretrained = tuner.config_class.from_pretrained
    return [maker]


def plain(tuner: Tuner) -> list[Row]:
    """Rows of (config class, arguments that it demands)."""
    return [(tuner.config_class, dict(tuner.demands))]


def layer_indexed(tuner: Tuner) -> list[Row]:
    """As `plain`, if the config can pick layers by their index."""
    picks = {"layers_to_transform", "layers_pattern"} <= {field.name for field in fields(tuner.config_class)}
    return [(config, {**demands, "target_modules": ["lin0"]}) for config, demands in plain(tuner)] if picks else []


def configs(tuner: Tuner) -> list[Row]:
    """A config that leaves the choice of layers to PEFT."""
    return [tuner.config_class(**variant) for variant in tuner.arguments]


def on_mlp(tuner: Tuner) -> list[Row]:
    """Configs that adapt the layer `lin0`, not as an identity."""
    return [tuner.config_class(**{**v, "target_modules": ["lin0"], init_flag(tuner): False}) for v in tuner.arguments]


def self_targeting(tuner: Tuner) -> list[Row]:
    """Rows with patterns that would match an adapter's own weights, too; `l2` is a convolution."""
    patterns = ("l1.*", "l2.*") if "convolution" in tuner.layers else ("l1.*",)
    return [(tuner.config_class, {**v, "target_modules": pattern}) for v in tuner.arguments for pattern in patterns]


def task(task_type: str) -> Rows:
    """Rows of (config class, arguments) for the transformers models of a task."""

    def rows(tuner: Tuner) -> list[Row]:
        free = {"target_modules": None} if tuner.layers else {}
        return [(tuner.config_class, {**free, **variant, "task_type": task_type}) for variant in tuner.arguments]

    return rows


# PEFT's module -> name of a table there, or of a test with a table of its own -> our rows for it.
TABLES: dict[str, dict[str, Rows]] = {
    "test_custom_models": {
        "TEST_CASES": custom,
        "MULTIPLE_ACTIVE_ADAPTERS_TEST_CASES": on_layers(pairs),
        "ALL_PEFT_CONFIG_CLASSES": on_layers(classes),
        "test_multiple_adapters_mixed_modules_to_save": on_layers(classes),
        "test_multiple_adapters_mixed_modules_to_save_order_switched": on_layers(classes),
        "test_adapter_name_makes_no_difference": on_layers(on_mlp),
    },
    "test_decoder_models": {"ALL_CONFIGS": task("CAUSAL_LM")},
    "test_encoder_decoder_models": {"ALL_CONFIGS": task("SEQ_2_SEQ_LM")},
    "test_feature_extraction_models": {"ALL_CONFIGS": task("FEATURE_EXTRACTION")},
    "test_seq_classifier": {"ALL_CONFIGS": task("SEQ_CLS")},
    "test_token_classification_qa": {"TOKEN_CLS_CONFIGS": task("TOKEN_CLS"), "QA_CONFIGS": task("QUESTION_ANS")},
    "test_config": {
        "ALL_CONFIG_CLASSES": plain,
        "LAYER_INDEXING_CONFIG_CLASSES": layer_indexed,
        "test_save_pretrained_with_target_modules": on_layers(classes),
    },
    "test_low_level_api": {"test_inject_from_state_dict_and_from_config_target_same_layers": on_layers(configs)},
    "test_other": {"test_self_targeting_is_ignored": on_layers(self_targeting)},
    # without tables of ours: for PEFT's tests of a method by its name, `Tuner.own`
    "test_initialization": {},
    "test_lora_variants": {},
    "test_lora_conversion": {},
}

# Tests that go over every registered PEFT type by themselves.
EVERY_TYPE = ("test_from_peft_type",)

# Modules of the suite with tables of tuners that are not run, and why.
LEFT_OUT = {
    "test_gpu_examples, test_common_gpu, test_quantization": "need a GPU or quantised weights",
    "test_torch_compile": "PEFT itself runs it on request only; needs a data set of the hub",
    "test_stablediffusion, test_vision_models": "adapt diffusion and convolution models, need images of the hub",
    "test_target_parameters, test_mixed": "tuners opt into these: expert weights, several types in one model",
}
