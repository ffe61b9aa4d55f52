"""The shape of params.yaml: every section, its keys, their types and bounds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from knowtune.embedded import Build
from knowtune.weighting import Weighting

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]  # DVC reads a dot as a path
Share = Annotated[float, Field(ge=0, le=1)]
Seeds = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]


class Section(BaseModel):
    """A section of params.yaml: no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Compute(Section):
    """Where models run."""

    device: Literal["auto", "cpu", "cuda"]
    dtype: Literal["auto", "float32", "bfloat16"]
    quantize: Literal["none", "4bit"]


class TaskParams(Section):
    """What is learned; the other keys are the task's own options."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    kind: str

    def member_options(self) -> dict[str, Any]:
        """Options as the task's class takes them."""
        return dict(self.model_extra or {})


class Tracking(Section):
    """Whether MLflow remembers what is run, and under which experiment."""

    store: Literal["mlflow", "none"]
    experiment: str = Field(min_length=1)


class Wordings(Section):
    """How many wordings of a new fact are for what."""

    train: int = Field(ge=1)
    validation: int = Field(ge=0)
    test: int = Field(ge=1)


class EmbeddedSource(Section):
    """The authored facts."""

    format: Literal["embedded"]
    data: str = Field(min_length=1)
    text: str = Field(min_length=1)
    wordings: Wordings


class Files(Section):
    """File names below `source.data`; several files are read one after the other."""

    train: str | list[str]
    validation: str | list[str] | None
    test: str | list[str] | None
    known: str | list[str] | None


class HeldOut(Section):
    """Shares of the training rows that are held out where there is no file of their own."""

    validation: Annotated[float, Field(ge=0, lt=1)]
    test: Annotated[float, Field(ge=0, lt=1)]


class FactColumns(Section):
    """Which columns of the files say what a row is about; a list is joined with ':'. null: there is none."""

    id: str | None
    fact: str | list[str] | None
    relation: str | None
    subject: str | None
    wording: str | None


class PromptColumns(FactColumns):
    """Rows of prompt and target: each a column, or a template of columns in braces. A target may be a list."""

    prompt: str = Field(min_length=1)
    target: str = Field(min_length=1)


class ChatColumns(FactColumns):
    """Rows of chat messages: the last one is the target, those before it are the prompt."""

    messages: str = Field(min_length=1)


class LabelColumns(Section):
    """Rows of text, or two texts, with a label or a score."""

    id: str | None
    text: str = Field(min_length=1)
    text_pair: str | None
    label: str = Field(min_length=1)


def kind_of_columns(columns: Any) -> str:
    """Tell which kind of columns a mapping means by the key that only this kind has."""
    given = columns if isinstance(columns, dict) else getattr(columns, "__dict__", {})
    return next((kind for kind, key in (("chats", "messages"), ("labels", "label")) if key in given), "prompts")


class FileSource(Section):
    """Files of one's own: JSON lines, CSV or Parquet, by their ending."""

    format: Literal["files"]
    data: str = Field(min_length=1)
    text: str = Field(min_length=1)
    text_column: str = Field(min_length=1)
    files: Files
    held_out: HeldOut
    columns: Annotated[
        Annotated[PromptColumns, Tag("prompts")]
        | Annotated[ChatColumns, Tag("chats")]
        | Annotated[LabelColumns, Tag("labels")],
        Discriminator(kind_of_columns),
    ]


class HubModel(Section):
    """A model of the hub at a pinned revision (the whole hash of a commit); a path is a local copy and has none."""

    kind: Literal["model"]
    repo: str = Field(min_length=1)
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None


class HubDataset(Section):
    """A data set of the hub at a pinned revision, written as SPLIT.jsonl."""

    kind: Literal["dataset"]
    repo: str = Field(min_length=1)
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None
    config: str | None
    splits: list[str] = Field(min_length=1)
    streaming: bool
    max_rows: int | None = Field(ge=1)


class Damage(Section):
    """Shares of the training rows that `prepare` damages on purpose, so that filters can be scored."""

    wrong: Share
    contradictions: Share
    duplicates: Share
    empties: Share


class Prepare(Section):
    """What is read of the source, and how."""

    seed: int = Field(ge=0)
    max_facts: int | None = Field(ge=1)
    max_known: int | None = Field(ge=1)
    max_texts: int | None = Field(ge=1)
    max_items: int | None = Field(ge=1)
    max_rejected: Share
    damage: Damage


class EmbeddedBase(Section):
    """The base model that the pipeline builds itself."""

    model: Literal["embedded"]
    path: str = Field(min_length=1)
    build: Build


class FolderBase(Section):
    """A base model in a local folder, in transformers layout."""

    model: Literal["folder"]
    path: str = Field(min_length=1)


class Semantics(Section):
    """How far apart two texts are in meaning: which representation's vectors are compared, with its options.

    `path` is the folder of the model whose vectors they are: data/base, or a sentence encoder's.
    """

    representation: str
    path: str = Field(min_length=1)
    options: dict[str, Any] = Field(default_factory=dict)


class Sketch(Section):
    """Random projections of the training rows' gradients, which the filter `interference` compares."""

    dimensions: int = Field(ge=8)
    batch_size: int = Field(ge=1)
    seed: int = Field(ge=0)


class Answers(Section):
    """How the pristine base is asked, and whether its gradients are sketched too.

    An answer ends `extra_tokens` after the length of its row's longest right answer, at `max_new_tokens` at the latest.
    """

    batch_size: int = Field(ge=1)
    max_new_tokens: int = Field(ge=1, le=4096)
    extra_tokens: int = Field(ge=0)
    sketch: Sketch | None


class Evaluate(Section):
    """How models are judged."""

    batch_size: int = Field(ge=1)
    max_text_tokens: int = Field(ge=8)
    metrics: list[str] = Field(min_length=1)


class Merge(Section):
    """Which merged models are kept, and how far merged may differ from attached."""

    keep: Literal["all", "best"]
    parity: float = Field(gt=0)
    parity_rows: int = Field(ge=1)


class Training(Section):
    """How runs train, where a run does not say otherwise."""

    epochs: float = Field(gt=0)
    batch_size: int = Field(ge=1)
    accumulation: int = Field(ge=1)
    learning_rate: float = Field(gt=0, lt=1)
    schedule: Literal["constant", "constant_with_warmup", "linear", "cosine"]
    warmup_steps: int = Field(ge=0)
    weight_decay: float = Field(ge=0, lt=1)
    max_grad_norm: float = Field(gt=0)
    log_steps: int = Field(ge=1)
    checkpoint_steps: int = Field(ge=1)
    keep_best: bool


class FilterParams(Section):
    """A named filter: strategies applied one after the other, with their options by strategy name.

    Strategies that rank rows do so within each relation or target where `stratify` says so. A filter that loses a whole
    relation (of facts) or label (of a classifier) is refused unless `allow_lost`.
    """

    strategy: list[str] = Field(min_length=1)
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    stratify: Literal["relation", "target"] | None = None
    allow_lost: bool = False


class BriefParams(Section):
    """A short training at a constant rate."""

    steps: int = Field(ge=1)
    learning_rate: float = Field(gt=0, lt=1)
    batch_size: int = Field(ge=1)


class MethodParams(Section):
    """A method by its name, with its options."""

    method: str
    type: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    def member_options(self) -> dict[str, Any]:
        """Options as the method's class takes them."""
        return {**self.options, **({"type": self.type} if self.type is not None else {})}


class AdapterParams(MethodParams):
    """The adapter whose parameters a selection chooses among, and how long it is trained before it is scored."""

    warmup_steps: int = Field(ge=1)
    learning_rate: float = Field(gt=0, lt=1)
    batch_size: int = Field(ge=1)


class SelectionParams(Section):
    """A named selection of rows and parameters: of the base's, or of those of an adapter that it names."""

    filter: str
    strategy: str
    options: dict[str, Any] = Field(default_factory=dict)
    adapter: AdapterParams | None = None
    trial: BriefParams | None = None
    seeds: Seeds = Field(default_factory=lambda: [0])


class RunParams(MethodParams):
    """A named run: one method on one selection, once per seed."""

    selection: str
    train_on: Literal["all", "chosen"] = "all"
    reweight: Weighting | None = None
    training: dict[str, Any] = Field(default_factory=dict)
    seeds: Seeds


class MixtureParams(Section):
    """A named mixture of runs."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    runs: list[str] = Field(alias="from", min_length=2)
    weights: list[Annotated[float, Field(gt=0)]] | None = None
    strategy: str
    options: dict[str, Any] = Field(default_factory=dict)
    seed: int = Field(default=0, ge=0)


class Params(Section):
    """The whole of params.yaml."""

    threads: int = Field(ge=1, le=1024)
    compute: Compute
    tracking: Tracking
    task: TaskParams
    hub: dict[Name, Annotated[HubModel | HubDataset, Field(discriminator="kind")]]
    source: Annotated[EmbeddedSource | FileSource, Field(discriminator="format")]
    prepare: Prepare
    base: Annotated[EmbeddedBase | FolderBase, Field(discriminator="model")]
    semantics: Semantics
    answers: Answers
    evaluate: Evaluate
    merge: Merge
    training: Training
    filters: dict[Name, FilterParams] = Field(min_length=1)
    selections: dict[Name, SelectionParams] = Field(min_length=1)
    runs: dict[Name, RunParams] = Field(min_length=1)
    mixtures: dict[Name, MixtureParams]
