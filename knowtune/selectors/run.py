"""One selection, one seed: from kept rows and a base to a folder with the choice, and the adapter it is of, if any."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from knowtune.common.errors import UserError
from knowtune.methods.base import MaskedMethod, Method
from knowtune.selectors.artefact import write_choice
from knowtune.selectors.base import Pool, Selector
from knowtune.selectors.plot import draw_choice

if TYPE_CHECKING:
    import torch

    from knowtune.checkpoints.base import Base
    from knowtune.selectors.base import Choice

ADAPTER = "adapter"  # folder of a warmed adapter inside a selection's seed


@dataclass(frozen=True)
class Brief:
    """A short training: before an adapter is scored, or of a pair that a search compares."""

    steps: int
    learning_rate: float
    batch_size: int


@dataclass(frozen=True)
class ChoiceJob:
    """What one seed of a selection needs.

    Args:
        name: the selection's name, for messages.
        strategy: as in params.yaml.
        selector: the member, with its options.
        seed: of lots, a classifier's new head, an adapter's start.
        rows: kept rows.
        validation: rows that a search compares pairs on.
        adapter: the method whose parameters are chosen among, and its name; None for the base's.
        warmup: how that adapter is trained before it is scored.
        masked: the method that a search trains pairs with.
        trial: how; None where nothing is searched.
    """

    name: str
    strategy: str
    selector: Selector
    seed: int
    rows: pd.DataFrame
    validation: pd.DataFrame
    adapter: tuple[str, Method] | None = None
    warmup: Brief | None = None
    masked: MaskedMethod | None = None
    trial: Brief | None = None

    @property
    def label(self) -> str:
        """Name the job in progress lines."""
        return f"select {self.name}, seed {self.seed}"


def choose_seed(job: ChoiceJob, base: Base, folder: Path, work: Path) -> Choice:
    """Choose, and write the choice into a folder.

    Args:
        job: what to choose.
        base: the pristine base.
        folder: of this seed; written anew.
        work: where warm-up and scoring go on after an interruption; must be of this seed alone.

    Raises:
        UserError: whatever the selector, the scoring or the training says.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pool = _pool(job, base, folder, work)
    try:
        choice = job.selector.choose(pool, job.seed)
    except UserError as error:
        option, _, _ = str(error).partition(":")
        if option not in type(job.selector).model_fields:
            raise
        raise UserError(f"selections.{job.name}.options.{error}") from None
    described: dict[str, Any] | None = None
    if job.adapter is not None:
        name, method = job.adapter
        described = {"method": name, "options": method.model_dump(mode="json")}
    write_choice(
        folder,
        job.rows,
        choice,
        base_digest=base.digest,
        strategy=job.strategy,
        options=job.selector.model_dump(mode="json"),
        adapter=described,
        picture=draw_choice(choice),
    )
    return choice


def _pool(job: ChoiceJob, base: Base, folder: Path, work: Path) -> Pool:
    """Load the model that is chosen among: the base, or the base with the warmed adapter; none for rows alone."""
    from knowtune.selectors.pools import ModelPool

    if not job.selector.masks:
        return Pool(job.rows)
    from knowtune.training.fit import encode, seed_everything

    encoded = encode(base.tokenizer(), job.rows, base, job.label)
    seed_everything(job.seed)  # a classifier's new head is random, and takes part in the scoring
    model: torch.nn.Module = base.model()
    start = None
    if job.adapter is not None:
        from knowtune.methods.peft_adapters import load_adapter

        start = folder / ADAPTER
        _warm(job, base, model, encoded, start, work / "warmup")
        model = load_adapter(base.model(), start, trainable=True)
    return ModelPool(
        rows=job.rows,
        encoded=encoded.rows,
        model=model,
        task=base.task,
        pattern=getattr(job.selector, "pattern", None),
        adapter="default" if job.adapter is not None else None,
        seed=job.seed,
        label=job.label,
        work=work,
        trial=None if job.trial is None else lambda rows, mask, seed: _try(job, base, rows, mask, seed, start, work),
    )


def _warm(job: ChoiceJob, base: Base, model: Any, encoded: Any, folder: Path, work: Path) -> None:
    """Train a fresh adapter for some steps; at its start half of LoRA has no gradient at all, for B = 0."""
    from knowtune.training.fit import brief, fit

    assert job.adapter is not None
    assert job.warmup is not None
    _, method = job.adapter
    recipe = brief(job.warmup.steps, len(encoded), job.warmup.batch_size, job.warmup.learning_rate)
    fitted = fit(
        method.attach(model),
        encoded,
        None,
        recipe,
        base.compute,
        base.task,
        seed=job.seed,
        work=work,
        method=method,
        label=f"{job.label}: warm-up",
    )
    folder.mkdir(parents=True)
    method.save(fitted.model, folder)


def _try(
    job: ChoiceJob,
    base: Base,
    rows: Sequence[int],
    mask: Mapping[str, torch.Tensor],
    seed: int,
    start: Path | None,
    work: Path,
) -> float:
    """Train a pair of rows and mask briefly; return less the mean loss of the validation rows."""
    from knowtune.training.fit import brief, encode, fit, seed_everything

    assert job.masked is not None
    assert job.trial is not None
    tokenizer, chosen = base.tokenizer(), job.rows.iloc[list(rows)]
    label = f"{job.label}: trial of {len(chosen)} rows, {sum(map(len, mask.values())):,} parameters"
    encoded = encode(tokenizer, chosen, base, label)
    seed_everything(seed)
    place = work / "trial"
    shutil.rmtree(place, ignore_errors=True)
    fitted = fit(
        job.masked.attach_masked(base.model(), mask, start),
        encoded,
        None,
        brief(job.trial.steps, len(encoded), job.trial.batch_size, job.trial.learning_rate),
        base.compute,
        base.task,
        seed=seed,
        work=place,
        method=job.masked,
        label=label,
    )
    judged = base.task.evaluator.judge(fitted.model, tokenizer, job.validation, job.trial.batch_size, label)
    return -float(judged["loss"].mean())
