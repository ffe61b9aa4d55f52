"""What a run keeps of its base, and how: `runs.NAME.preserve`, `rehearse`, and `protect` of a selection.

Four sources say what the base knew:

    known   rows that the base answers right and that no metric measures: `prepare.replay.known`, `source.files.replay`
    text    general text that no metric measures: `prepare.replay.text`, `source.replay_text`
    self    sequences that the base wrote itself: the stage `rehearse`
    prompts the prompts of the training rows, without their targets (distillation alone)
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from knowtune.common.bounds import Count, Natural, Positive

Source = Literal["known", "text", "self"]
Read = Literal["self", "known", "text", "prompts", "replay"]
Listed = BeforeValidator(lambda v: v if isinstance(v, list) else [v])


def _once(names: list[str]) -> list[str]:
    """Refuse a name that is given twice."""
    if len(set(names)) < len(names):
        raise ValueError("each source once")
    return names


Sources = Annotated[list[Source], Field(min_length=1), Listed, AfterValidator(_once)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Share = Annotated[float, Field(ge=0, le=100)]
LongText = Annotated[int, Field(ge=2, lt=2**31)]
Temperature = Annotated[Positive, Field(ge=0.01)]  # with less a distribution is its largest entry alone
INSTEAD = "form: l2 with of: parameters; or distill"  # of EWC, where a method gives no change of weights


class Options(BaseModel):
    """Options without unknown keys and silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, populate_by_name=True)


class Replay(Options):
    """Rows mixed into every step, with a loss of their own mean."""

    source: Source = Field(default="known", alias="from", description="known, text or self")
    share: Share = Field(default=0.5, description="replayed rows for each row of a step")
    weight: Weight = Field(default=1.0, description="of their mean loss per target token beside the task's")


class Distill(Options):
    """Hold the tuned model's distribution of the next token q to the pristine base's p.

    Adds weight * temperature^2 * mean over tokens of KL(p || q), both softened by the temperature.
    """

    on: Annotated[list[Read], Field(min_length=1), Listed, AfterValidator(_once)] = Field(
        default=["self"], description="what both read; replay: the rows that are replayed anyway; several are added"
    )
    share: Share = Field(default=0.25, description="sequences of each for each row of a step; of replayed rows all")
    weight: Weight = Field(default=1.0, description="of the divergence beside the task's loss")
    temperature: Temperature = Field(default=1.0, description="tau, which softens both distributions")
    direction: Literal["forward", "reverse"] = Field(
        default="forward", description="forward: KL(base || tuned); reverse: KL(tuned || base)"
    )
    match: Literal["logits", "states"] | None = Field(
        default=None, description="states: mean-pooled hidden states, of a model with a head; null: what suits the task"
    )
    cache: Literal["none", "top_k"] = Field(
        default="none", description="top_k: the base's largest probabilities lie on disk, so a step runs no base"
    )
    top_k: Count = Field(default=64, description="how many of them for each token")

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        """Refuse what has no effect."""
        if self.cache == "none" and "top_k" in self.model_fields_set:
            raise ValueError("top_k only with cache: top_k")
        if self.match == "states" and self.model_fields_set & {"temperature", "direction"}:
            raise ValueError("temperature and direction not with match: states, which compares by a cosine")
        return self


class Anchor(Options):
    """A penalty on the way from the base: weight / 2 * sum_j F_j (theta_j - theta0_j)^2."""

    form: Literal["l2", "ewc"] = Field(
        default="l2", description="l2: F = 1 (L2-SP); ewc: Fisher information of the pristine base, scaled to mean 1"
    )
    weight: float = Field(ge=0, le=1e12, description="strength")
    of: Literal["change", "parameters"] = Field(
        default="change", description="of the weights' change that the method computes, or of its own parameters"
    )
    sources: Sources = Field(
        default=["self"], alias="from", description="what the Fisher information is taken on (ewc); of several the mean"
    )
    samples: Count | None = Field(default=None, description="so many rows or sequences of each; null for all")
    decoupled: bool = Field(
        default=False, description="pull after the optimiser's step, as AdamW decays, instead of by the loss"
    )

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        """Refuse what contradicts itself or has no effect."""
        if self.form == "ewc" and self.of == "parameters":
            why = "at an adapter's start half of its parameters have no Fisher information, for the other half is 0"
            raise ValueError(f"form: ewc with of: change; {why}")
        if self.form == "l2" and self.model_fields_set & {"sources", "samples"}:
            raise ValueError("from and samples only with form: ewc")
        return self


class Preserve(Options):
    """What a run does against forgetting; any subset."""

    replay: Replay | None = None
    distill: Distill | None = None
    anchor: Anchor | None = None
    max_text_tokens: LongText = Field(default=96, description="tokens of a general text that are read")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Refuse what has nothing to work on."""
        if self.distill is not None and "replay" in self.distill.on and self.replay is None:
            raise ValueError("distill.on: replay needs `replay`")
        if len(set(self.compared)) < len(self.compared):
            raise ValueError("distill.on: each source once; replay stands for the source of `replay`")
        if self.distill is not None and self.replay is not None and "replay" in self.distill.on:
            _reads_replayed(self.replay, self.distill)
        if "text" not in self.sources:
            _only_of_text(self)
        return self

    @property
    def compared(self) -> list[str]:
        """Name the sources whose sequences are compared with the base."""
        replayed = self.replay.source if self.replay is not None else "known"
        on = [] if self.distill is None else self.distill.on
        return [replayed if name == "replay" else name for name in on]

    @property
    def reads_cache(self) -> bool:
        """Whether training compares with a teacher's cache."""
        distill = self.distill
        return distill is not None and distill.cache == "top_k" and distill.weight > 0

    @property
    def reads_fisher(self) -> bool:
        """Whether training reads the base's Fisher information."""
        return self.anchor is not None and self.anchor.form == "ewc" and self.anchor.weight > 0

    @property
    def computed(self) -> dict[str, Any]:
        """Say what decides what the base is run for before training: neither a weight nor a share does."""
        fisher = self.anchor.model_dump(include={"sources", "samples"}) if self.anchor and self.reads_fisher else None
        cache = self.distill.model_dump(include={"temperature", "top_k"}) if self.distill and self.reads_cache else None
        return {
            "fisher": fisher,
            "cache": None if cache is None else {**cache, "compared": self.compared},
            "max_text_tokens": self.max_text_tokens,
        }

    @property
    def sources(self) -> frozenset[str]:
        """Name the sources that training reads: of known, text, self, prompts."""
        named: set[str] = set()
        if self.replay is not None:
            named.add(self.replay.source)
        named.update(self.compared)
        if self.anchor is not None and self.anchor.form == "ewc":
            named.update(self.anchor.sources)
        return frozenset(named)


class Rehearsal(Options):
    """Sequences that the base writes itself, once: sampled after its start token or after few-shot prompts."""

    sequences: Count = Field(description="how many")
    max_tokens: int = Field(ge=2, le=4096, description="tokens of each, the prompt's included")
    temperature: Positive = Field(default=1.0, description="of sampling; 1 is the base's own distribution")
    prompt: Literal["start", "few_shot"] = Field(
        default="start", description="what it goes on from: its start token, or rows that may be replayed"
    )
    shots: Natural = Field(default=4, description="rows in a few-shot prompt")
    batch_size: Count = Field(default=64, description="sequences at a time; no result depends on it but by rounding")
    seed: int = Field(default=0, ge=0, lt=2**31, description="of sampling")

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        """Refuse what has no effect."""
        if self.prompt == "start" and "shots" in self.model_fields_set:
            raise ValueError("shots only with prompt: few_shot")
        return self


class Protect(Options):
    """Leave alone what carries the base's knowledge, found by its Fisher information F_kept."""

    sources: Sources = Field(alias="from", description="what must stay; several are added, each scaled to mean 1")
    share: float = Field(default=0.5, gt=0, lt=1, description="share of the entries in scope that no run may train")
    form: Literal["exclude", "contrast"] = Field(
        default="exclude", description="exclude: those with the most F_kept; contrast: rank by F_new / F_kept instead"
    )
    samples: Count | None = Field(default=None, description="so many rows or sequences of each source; null for all")
    max_text_tokens: LongText = Field(default=96, description="tokens of a general text that are read")

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        """Refuse what has no effect."""
        if self.form == "contrast" and "share" in self.model_fields_set:
            raise ValueError("share only with form: exclude; a contrast leaves nothing out")
        if "text" not in self.sources:
            _only_of_text(self)
        return self


def _reads_replayed(replay: Replay, distill: Distill) -> None:
    """Refuse a comparison on replayed rows where there are none, and a share of what is read whole."""
    if replay.share == 0:
        name = replay.source
        raise ValueError(f"distill.on: replay needs replay.share above 0; or take {name} with a share of its own")
    if distill.on == ["replay"] and "share" in distill.model_fields_set:
        raise ValueError(
            "distill.share not with on: replay alone, of which all rows are read; replay.share says how many"
        )


def _only_of_text(options: Options) -> None:
    """Refuse a length of texts where none is read."""
    if "max_text_tokens" in options.model_fields_set:
        raise ValueError("max_text_tokens only with the source text")
