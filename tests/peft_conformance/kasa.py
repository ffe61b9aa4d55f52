"""LoRA's config with KaSA switched on, so that PEFT's cases for LoRA run over it.

PEFT's tests leave cases out where they see `kasa_config` among the arguments, as its own KaSA changes the base. Ours
does not, so it stays out of their sight.
"""

from dataclasses import InitVar, dataclass, field

from peft import KasaConfig, LoraConfig

import knowtune  # noqa: F401  # puts ours in the place of PEFT's

BY_PEFT = LoraConfig.__dataclass_fields__["kasa_config"].metadata  # by this PEFT knows a variant


@dataclass
class KasaLora(LoraConfig):  # type: ignore[misc]
    """A LoRA config with KaSA, of a rank that leaves something of a weight with two outputs."""

    r: int = 1
    kasa_config: KasaConfig | None = field(default_factory=KasaConfig, metadata=BY_PEFT)
    init_weights: InitVar[bool | None] = (
        None  # PEFT's tests call LoRA's own option so, of a class that they do not know
    )

    def __post_init__(self, init_weights: bool | None) -> None:
        """Take the option by either name."""
        super().__post_init__()
        if init_weights is not None:
            self.init_lora_weights = init_weights
