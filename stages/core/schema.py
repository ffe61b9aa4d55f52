"""The shape of params.yaml: every section, its keys, their types and bounds."""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

from knowtune.common.bounds import Count, Natural, Positive, Rate
from knowtune.preserve.options import Preserve, Rehearsal
from knowtune.training.build_embedded import Build
from knowtune.training.recipe import Recipe, ShortTraining
from knowtune.training.weights import Weighting

LONGEST_NAME, LONGEST_PATH = 255, 4095  # bytes that file systems allow


def _visible(text: str) -> str:
    """Refuse a text in which nothing can be seen."""
    if not any(letter.isprintable() and not letter.isspace() for letter in text):
        raise ValueError("a text that says something, not blanks")
    return text


def _one_line(text: str) -> str:
    """Refuse a name with line breaks, tabs, or blanks around it."""
    if text != text.strip() or len(text.splitlines()) > 1 or "\t" in text:
        raise ValueError("one line, without blanks around it")
    return text


def _path(text: str) -> str:
    """Refuse a path that the system cannot have."""
    if len(os.fsencode(text)) > LONGEST_PATH or any(len(os.fsencode(p)) > LONGEST_NAME for p in text.split("/")):
        raise ValueError(f"a path of up to {LONGEST_PATH} bytes, each name in it of up to {LONGEST_NAME}")
    return text


def _file(text: str) -> str:
    """Refuse a file's name that means several files, or one outside of its folder."""
    if "*" in text:
        raise ValueError("the name of one file; several are a list of names")
    named = PurePosixPath(text).name or text == "."  # the file that `source.data` itself is
    if PurePosixPath(text).is_absolute() or ".." in text.split("/") or not named:
        raise ValueError("a file's name below `source.data`")
    return text


def _once(values: list[Any]) -> list[Any]:
    """Refuse a list that says a thing twice."""
    if any(value in values[:i] for i, value in enumerate(values)):
        raise ValueError("each once")
    return values


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=100)]  # DVC reads a dot as a path
Text = Annotated[str, AfterValidator(_visible)]
Line = Annotated[Text, AfterValidator(_one_line)]
Place = Annotated[Text, AfterValidator(_path)]  # odd signs are the workspace's business
FileName = Annotated[Place, AfterValidator(_file)]
FileNames = FileName | Annotated[list[FileName], Field(min_length=1), AfterValidator(_once)]
Columns = Text | Annotated[list[Text], Field(min_length=1), AfterValidator(_once)]
Split = Annotated[str, Field(pattern=r"^\w+([.-]\w+)*$", max_length=100)]
Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Seeds = Annotated[list[Seed], Field(min_length=1)]
Phase = Annotated[list[Text], Field(min_length=1), AfterValidator(_once)]


class Section(BaseModel):
    """A section of params.yaml: no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


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
    experiment: Annotated[Line, Field(max_length=200)]


class Templates(Section):
    """In how many templates a new fact is learned, validated and tested."""

    train: Count
    validation: Natural
    test: Count


class EmbeddedSource(Section):
    """The authored facts."""

    format: Literal["embedded"]
    data: Place
    text: Place
    replay_text: Place | None = None  # where prepare.replay.text is taken from: `text` itself; the rest is measured
    templates: Templates


class Files(Section):
    """File names below `source.data`; several files are read one after the other."""

    train: FileNames
    validation: FileNames | None
    test: FileNames | None
    known: FileNames | None
    replay: FileNames | None = None  # rows that the base knows and that may be replayed; no fact of them is measured


class HeldOut(Section):
    """Shares of the training rows that are held out where there is no file of their own."""

    validation: Annotated[float, Field(ge=0, lt=1)]
    test: Annotated[float, Field(ge=0, lt=1)]


class FactColumns(Section):
    """Which columns of the files say what a row is about; a list is joined with ':'. null: there is none."""

    id: Text | None
    fact: Columns | None
    relation: Text | None
    subject: Text | None
    template: Text | None


class PromptColumns(FactColumns):
    """Rows of prompt and target: each a column, or a template of columns in braces. A target may be a list."""

    prompt: Text
    target: Text


class ChatColumns(FactColumns):
    """Rows of chat messages: the last one is the target, those before it are the prompt."""

    messages: Text
    tools: Text | None = None  # then a column of this name, where there is one


class LabelColumns(Section):
    """Rows of text, or two texts, with a label or a score."""

    id: Text | None
    text: Text
    text_pair: Text | None
    label: Text


class CaseColumns(Section):
    """Records of whole cases, as data for knowledge editing come; see `knowtune.data.editing_cases`."""

    id: Text | None
    relation: Text | None
    subject: Text | None
    prompt: Text
    target: Text
    old: Text | None
    paraphrases: Columns | None
    locality_prompt: Columns | None
    locality_target: Columns | None


KINDS_OF_COLUMNS = {
    **dict.fromkeys(("paraphrases", "locality_prompt", "locality_target", "old"), "cases"),
    "messages": "chats",
    "label": "labels",
}


def kind_of_columns(columns: Any) -> str:
    """Tell which kind of columns a mapping means by a key that only this kind has."""
    given = columns if isinstance(columns, dict) else getattr(columns, "__dict__", {})
    return next((kind for key, kind in KINDS_OF_COLUMNS.items() if key in given), "prompts")


class FileSource(Section):
    """Files of one's own: JSON lines, CSV or Parquet, by their ending.

    `several_answers`: rows of one prompt are right answers of each other, no contradiction.
    """

    format: Literal["files"]
    data: Place
    text: Place
    text_column: Text
    replay_text: Place | None = None  # general text that may be replayed; None or `text` itself: a share of that
    separator: Literal[",", ";", "\t", "|"] | None = None  # of cells in tables of text; None: as each file shows
    files: Files
    held_out: HeldOut
    several_answers: bool = False
    columns: Annotated[
        Annotated[PromptColumns, Tag("prompts")]
        | Annotated[ChatColumns, Tag("chats")]
        | Annotated[LabelColumns, Tag("labels")]
        | Annotated[CaseColumns, Tag("cases")],
        Discriminator(kind_of_columns),
    ]


class HubModel(Section):
    """A model of the hub at a pinned revision (the whole hash of a commit); a path is a local copy and has none."""

    kind: Literal["model"]
    repo: Place
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None


class HubDataset(Section):
    """A data set of the hub at a pinned revision, written as SPLIT.jsonl."""

    kind: Literal["dataset"]
    repo: Place
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None
    config: Line | None
    splits: Annotated[list[Split], Field(min_length=1), AfterValidator(_once)]
    streaming: bool
    max_rows: Count | None


class LabelNoise(Section):
    """Shares of the training rows that `prepare` injects noise into, so that filters can be scored."""

    wrong: Share
    contradictions: Share
    duplicates: Share
    empties: Share


class ReplayShares(Section):
    """Shares of the known facts and of the general texts that may be replayed; the rest measures what is lost.

    `max_known` and `max_texts` bound what is replayed, as those of `prepare` bound what is measured.
    """

    known: Annotated[float, Field(ge=0, lt=1)] = 0.0
    text: Annotated[float, Field(ge=0, lt=1)] = 0.0
    max_known: Count | None = 10_000
    max_texts: Count | None = 10_000


class Prepare(Section):
    """What is read of the source, and how."""

    seed: Seed
    max_facts: Count | None
    max_known: Count | None
    max_texts: Count | None
    max_examples: Count | None
    max_rejected: Share
    label_noise: LabelNoise
    replay: ReplayShares = Field(default_factory=ReplayShares)


class EmbeddedBase(Section):
    """The base model that the pipeline builds itself."""

    model: Literal["embedded"]
    path: Place
    build: Build


class FolderBase(Section):
    """A base model in a local folder, in transformers layout."""

    model: Literal["folder"]
    path: Place


class Semantics(Section):
    """How far apart two texts are in meaning: which representation's vectors are compared, with its options.

    `path` is the folder of the model whose vectors they are: data/base, or a sentence encoder's.
    """

    representation: str
    path: Place
    options: dict[str, Any] = Field(default_factory=dict)


class Sketch(Section):
    """Random projections of the training rows' gradients, which the filter `interference` compares."""

    dimensions: int = Field(ge=8, lt=2**31)
    batch_size: Count
    seed: Seed


class Answers(Section):
    """How the pristine base is asked, and whether its gradients are sketched too.

    An answer ends `extra_tokens` after the length of its row's longest right answer, at `max_new_tokens` at the latest.
    """

    batch_size: Count
    max_new_tokens: int = Field(ge=1, le=4096)
    extra_tokens: Natural
    sketch: Sketch | None


class SetColumns(Section):
    """Which columns of a set's file are prompt and target, as of PromptColumns; the others may be left out."""

    prompt: Text
    target: Text
    id: Text | None = None
    fact: Columns | None = None
    relation: Text | None = None
    subject: Text | None = None
    template: Text | None = None


class TextSet(Section):
    """General texts, one a row: what is measured is the loss."""

    kind: Literal["text"]
    path: Place
    column: Text
    max_rows: Count | None = None


class FactSet(Section):
    """Prompts with right answers: what is measured is how many are right."""

    kind: Literal["facts"]
    path: Place
    columns: SetColumns
    max_rows: Count | None = None


class LabelSet(Section):
    """Prompts whose answer is one of a few labels: what is measured is how often the right one is the likeliest."""

    kind: Literal["classification"]
    path: Place
    columns: SetColumns
    labels: Annotated[list[Text], Field(min_length=2), AfterValidator(_once)]
    max_rows: Count | None = None


class HarnessSet(Section):
    """A task of lm-evaluation-harness; `path` is the folder of its YAML file and of the files that this reads."""

    kind: Literal["harness"]
    path: Place
    task: Line
    metric: Line
    filter: Line | None = None
    max_rows: Count | None = None


RetentionParams = TextSet | FactSet | LabelSet | HarnessSet


class Evaluate(Section):
    """How models are judged, and on which further sets of what they were not taught."""

    batch_size: Count
    max_text_tokens: int = Field(ge=8, lt=2**31)
    metrics: Annotated[list[str], Field(min_length=1), AfterValidator(_once)]
    retention: dict[Name, Annotated[RetentionParams, Field(discriminator="kind")]] = Field(default_factory=dict)


class Merge(Section):
    """Which merged models are kept, and how far merged may differ from attached."""

    keep: Literal["all", "best"]
    parity: Positive
    parity_rows: Count


class FilterParams(Section):
    """A named filter: strategies applied one after the other, with their options by strategy name.

    Strategies that rank rows do so within each relation or target where `stratify` says so. A filter that loses a whole
    relation (of facts) or label (of a classifier) is refused unless `allow_lost`.
    """

    strategy: list[str] = Field(min_length=1)
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    stratify: Literal["relation", "target"] | None = None
    allow_lost: bool = False


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

    warmup_steps: Count
    learning_rate: Rate
    batch_size: Count

    @property
    def warmup(self) -> ShortTraining:
        """The training before the scoring."""
        return ShortTraining(steps=self.warmup_steps, learning_rate=self.learning_rate, batch_size=self.batch_size)


class SelectionParams(Section):
    """A named selection of rows and parameters: of the base's, or of those of an adapter that it names."""

    filter: str
    strategy: str
    options: dict[str, Any] = Field(default_factory=dict)
    adapter: AdapterParams | None = None
    trial: ShortTraining | None = None
    seeds: Seeds = Field(default_factory=lambda: [0])


class RunParams(MethodParams):
    """A named run: one method on one selection, once per seed; `phases` are relations learned one after the other."""

    selection: str
    inner: MethodParams | None = None  # of a method that has another inside
    train_on: Literal["all", "chosen"] = "all"
    reweight: Weighting | None = None
    preserve: Preserve | None = None
    training: dict[str, Any] = Field(default_factory=dict)
    phases: Annotated[list[Phase], Field(min_length=2)] | None = Field(default_factory=lambda: None)
    seeds: Seeds

    def member_options(self) -> dict[str, Any]:
        """Options as the method's class takes them, the method inside it among them."""
        inside = {} if self.inner is None else {"inner": self.inner.model_dump()}
        return {**super().member_options(), **inside}


class MixtureParams(Section):
    """A named mixture of runs, or of a single one where the strategy takes one.

    The n-th seed of each run becomes the mixture's n-th; with `seeds: all`, all seeds of all runs become one model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, populate_by_name=True)

    runs: list[str] = Field(alias="from", min_length=1)
    seeds: Literal["each", "all"] = Field(default_factory=lambda: "each")
    weights: list[Positive] | None = None
    strategy: str
    options: dict[str, Any] = Field(default_factory=dict)
    seed: Seed = 0

    @property
    def sources(self) -> str:
        """Say of what it is mixed."""
        return f"{'all seeds of ' if self.seeds == 'all' else ''}{', '.join(self.runs)}"


class Best(Section):
    """The rule `best`: the run or mixture that is best by a metric, and passes; `of` these, or of all.

    No default here or in `Promote` stands in the schema: defaults there are part of what every other stage computes.
    """

    by: str
    of: Annotated[list[str], AfterValidator(_once)] = Field(default_factory=list)


class Rejects(Section):
    """How much of what was trained may be damage that was planted, and of what was read be rejected and not reviewed.

    `reviewed` names rejected rows by their id, or by their reason.
    """

    planted: Share
    unreviewed: Share
    reviewed: Annotated[list[Text], AfterValidator(_once)] = Field(default_factory=list)


class Promote(Section):
    """Which model is to be shipped: of one run, or the best by a rule; and what it must not be worse than.

    `learned` is the part of the evaluation in which it must beat the champion, by default the task's own. `bounds` are
    metrics of `evaluate.metrics` and sets of `evaluate.retention`; `model` is the name in the registry. With `keep`,
    only so many versions, the last, and those with an alias keep their weights there; all keep their records.
    """

    run: str | None = Field(default_factory=lambda: None)
    best: Best | None = Field(default_factory=lambda: None)
    learned: str | None = Field(default_factory=lambda: None)
    bounds: dict[str, float]
    rejects: Rejects
    model: Name = Field(default_factory=lambda: "knowtune")
    keep: Annotated[int, Field(ge=1)] | None = Field(default_factory=lambda: None)


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
    rehearse: Rehearsal | None = None
    training: Recipe
    filters: dict[Name, FilterParams] = Field(min_length=1)
    selections: dict[Name, SelectionParams] = Field(min_length=1)
    runs: dict[Name, RunParams] = Field(min_length=1)
    mixtures: dict[Name, MixtureParams]
    promote: Promote | None = Field(default_factory=lambda: None)
