"""Which types of PEFT say by which matrix they change a weight of the base, so that an anchor can hold the change."""

# What `get_delta_weight` of their layers gives is what merging adds: tests/unit/preserve/test_find_changes.py.
CHANGES = {
    "c3a", "deft", "delora", "fourierft", "frod", "gralora", "loha", "lokr", "lora", "osf", "peanut", "psoft", "pvera",
    "randlora", "shira", "supertuning", "tinylora", "unilora", "vblora", "vera", "waveft",
}  # fmt: skip
STARTS_ELSEWHERE = ("pissa", "olora", "corda", "loftq")  # values of `init_lora_weights` that change the base's weights
