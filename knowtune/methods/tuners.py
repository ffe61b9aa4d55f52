"""What PEFT learns from us. Each is a line of strings, as in a family's registry."""

TUNERS = {  # PEFT's name of a new type of adapter: its config, its model
    "FISH": ("knowtune.methods.fish.tuner.config:FishConfig", "knowtune.methods.fish.tuner.model:FishModel"),
    "SK_TUNING": (
        "knowtune.methods.sk_tuning.tuner.config:SkTuningConfig",
        "knowtune.methods.sk_tuning.tuner.model:SkTuningModel",
    ),
    "IMSM": ("knowtune.methods.imsm.tuner.config:ImsmConfig", "knowtune.methods.imsm.tuner.model:ImsmModel"),
}
REPLACED = {  # what of PEFT's own becomes another: the function that does so
    "KaSA": "knowtune.methods.kasa.tuner.install:install",
}
