"""Tasks of lm-evaluation-harness (Gao et al., https://github.com/EleutherAI/lm-evaluation-harness) as retention sets.

The harness reads a task's own files, builds its prompts and judges; what the model says to a prompt, our evaluator
finds, as for every other example: with the start token, masks and cache that our models need, composed ones too.

Nothing is fetched: a task reads files of its own folder. Of the harness's results the verdict on each document is kept,
and nothing of its clocks, paths and versions.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from knowtune.common.errors import UserError, nearest
from knowtune.data.contract import ROW_COLUMNS

if TYPE_CHECKING:
    import torch

    from knowtune.checkpoints.base import Base

INSTALL = "lm-evaluation-harness is not installed; `make extra NAME=harness` does it"
LOCAL = ("json", "csv", "parquet", "text")  # what `dataset_path` of a task may be
MAX_NEW_TOKENS = 256  # where the harness ends an answer whose task says nothing
FEW_SHOT_SEED = 1234  # the harness's own


@dataclass(frozen=True)
class HarnessTask:
    """A task of the harness.

    Args:
        where: the set's key, for messages.
        folder: of its YAML file, and of the files that this names, relative to the folder.
        task: its name.
        metric: of its metrics the one that says of a document whether it is right.
        filter: which of its filters of answers; None for the first.
        max_rows: of its documents the first so many; None for all.
    """

    where: str
    folder: Path
    task: str
    metric: str
    filter: str | None = None
    max_rows: int | None = None


def task_rows(on: HarnessTask) -> pd.DataFrame:
    """Give what a task asks: rows with prompt and target, without the examples of few-shot prompts.

    Raises:
        UserError: the harness is not installed, there is no such task, it cannot be read, or it is not of local files.
    """
    with _opened(on) as loaded:
        task = loaded["tasks"][on.task]
        try:
            documents = task.doc_iterator(rank=0, limit=on.max_rows, world_size=1)
            asked = [(i, str(task.doc_to_text(d)), str(task.doc_to_target(d))) for i, d in documents]
        except Exception as error:  # a template or function of the user's raises what it likes
            raise _unreadable(on, error) from error
    rows = [(f"{on.task}:{i}", prompt, target) for i, prompt, target in asked]
    table = pd.DataFrame(rows, columns=["id", "prompt", "target"], dtype="str")
    return table.assign(fact=table["id"]).reindex(columns=ROW_COLUMNS, fill_value="")


def measure_task(on: HarnessTask, model: torch.nn.Module, base: Base, batch_size: int, label: str) -> pd.DataFrame:
    """Let a model do a task.

    Args:
        on: the task.
        model: in evaluation mode; left as it is.
        base: whose tokenizer and task it has.
        batch_size: rows per forward pass.
        label: what progress bars say.

    Returns:
        Per document id and correct.

    Raises:
        UserError: as `task_rows`; or the metric does not say right or wrong.
    """
    with _opened(on) as loaded:
        from lm_eval.evaluator import evaluate

        task = loaded["tasks"][on.task]
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=FEW_SHOT_SEED)
        asked = _as_harness_model(on, model, base, batch_size, label)
        found = evaluate(lm=asked, task_dict=loaded, limit=on.max_rows, bootstrap_iters=0, log_samples=True)
    return _verdicts(on, found["samples"][on.task])


def _verdicts(on: HarnessTask, samples: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Take each document's verdict, in the order of the documents."""
    filters = list(dict.fromkeys(sample["filter"] for sample in samples))
    if on.filter is not None and on.filter not in filters:
        raise UserError(f"{on.where}.filter: got {on.filter!r}; allowed: {', '.join(filters)}")
    chosen = [sample for sample in samples if sample["filter"] == (on.filter or filters[0])]
    metrics = [name for name in chosen[0]["metrics"] if {sample[name] for sample in chosen} <= {0, 1}]
    if on.metric not in metrics:
        allowed = ", ".join(metrics) or "none of this task's says right or wrong"
        hint = nearest(on.metric, metrics)
        raise UserError(
            f"{on.where}.metric: got {on.metric!r}; allowed: {allowed}" + (f"; did you mean {hint!r}?" if hint else "")
        )
    ordered = sorted(chosen, key=lambda sample: int(sample["doc_id"]))
    return pd.DataFrame(
        {"id": [f"{on.task}:{s['doc_id']}" for s in ordered], "correct": [bool(s[on.metric]) for s in ordered]}
    )


def _unreadable(on: HarnessTask, error: Exception) -> UserError:
    """Make the error of a task whose files the harness cannot use."""
    return UserError(f"{on.where}: the harness cannot read the task {on.task!r}: {type(error).__name__}: {error}")


@contextlib.contextmanager
def _opened(on: HarnessTask) -> Iterator[Any]:
    """Give a task as the harness loads it; its data set lies in a temporary folder meanwhile."""
    try:
        import datasets
        from lm_eval.tasks import TaskManager
    except ImportError:
        raise UserError(f"{on.where}: {INSTALL}") from None
    for name in ("lm_eval", "lm_eval.evaluator"):
        logging.getLogger(name).setLevel(logging.ERROR)
    folder, cache = on.folder.resolve(), datasets.config.HF_DATASETS_CACHE
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    _require_local(on, manager)
    with tempfile.TemporaryDirectory() as temporary:
        try:
            datasets.config.HF_DATASETS_CACHE = Path(temporary)
            with contextlib.chdir(folder):  # so that names of files are relative to it
                loaded = manager.load([on.task])
        except Exception as error:  # as above
            raise _unreadable(on, error) from error
        finally:
            datasets.config.HF_DATASETS_CACHE = cache
        yield loaded


def _require_local(on: HarnessTask, manager: Any) -> None:
    """Refuse a task that is not there, or whose data are not in files."""
    if on.task not in manager.all_subtasks:
        known = ", ".join(manager.all_subtasks) or "no YAML file of a task is there"
        hint = nearest(on.task, manager.all_subtasks)
        did_you_mean = f"; did you mean {hint!r}?" if hint else ""
        raise UserError(f"{on.where}.task: got {on.task!r}; allowed: {known}{did_you_mean}")
    source = (manager.task_index[on.task].cfg or {}).get("dataset_path")
    if source not in LOCAL:
        raise UserError(
            f"{on.where}: the task's dataset_path: got {source!r}; allowed: {', '.join(LOCAL)}, with "
            "dataset_kwargs.data_files of files in the folder; nothing is fetched"
        )


def _as_harness_model(on: HarnessTask, model: torch.nn.Module, base: Base, batch_size: int, label: str) -> Any:
    """Make of a model what the harness asks."""
    from lm_eval.api.model import LM

    from knowtune.models.generate import greedy_answers

    tokenizer, evaluator = base.tokenizer(), base.task.evaluator

    class Answering(LM):  # type: ignore[misc]
        """Answers by our own evaluator."""

        def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
            """Give, per context and continuation, its log-probability, and whether it is what would be written."""
            pairs = [request.args for request in requests]
            rows = pd.DataFrame(pairs, columns=["prompt", "target"]).reindex(columns=ROW_COLUMNS, fill_value="")
            judged = evaluator.judge(model, tokenizer, rows, batch_size, label)
            encoded: Sequence[Any] = base.task.encode(tokenizer, rows)
            lengths = [row.target_end - row.target_start for row in encoded]
            return [
                (-nats * num, bool(right))
                for nats, num, right in zip(judged["loss"], lengths, judged["correct"], strict=True)
            ]

        def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
            """Refuse: a perplexity is neither right nor wrong."""
            raise UserError(f"{on.where}: {on.task} is a perplexity; `kind: text` measures the loss on texts")

        def generate_until(self, requests: Sequence[Any]) -> list[str]:
            """Write greedily, up to where the task says that an answer ends."""
            settings = [request.args[1] for request in requests]
            if any(setting.get("do_sample") or setting.get("temperature") for setting in settings):
                raise UserError(f"{on.where}: {on.task} samples its answers; allowed: greedy ones (do_sample: false)")
            limits = [int(setting.get("max_gen_toks", MAX_NEW_TOKENS)) for setting in settings]
            prompts = [request.args[0] for request in requests]
            answers = greedy_answers(model, tokenizer, prompts, batch_size, limits, label)
            return [_cut(answer, s.get("until", [])) for answer, s in zip(answers, settings, strict=True)]

    return Answering()


def _cut(answer: str, ends: str | Sequence[str]) -> str:
    """Cut an answer at the first of the texts that end it."""
    for end in [ends] if isinstance(ends, str) else ends:
        answer = answer.partition(end)[0] if end else answer
    return answer
