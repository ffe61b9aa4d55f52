"""One selection, one seed: from kept rows and a base to a folder with the choice, and the adapter it is of, if any."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
    from transformers import PreTrainedModel

    from knowtune.checkpoints.base import Base
    from knowtune.preserve.sources import Material
    from knowtune.selectors.base import Choice
    from knowtune.training.dataset import Rows
    from knowtune.training.recipe import ShortTraining

ADAPTER = "adapter"  # folder of a warmed adapter inside a selection's seed


@dataclass(frozen=True)
class Warmup:
    """The adapter whose parameters are chosen among, and how it is trained before it is scored.

    Args:
        name: the method's, as in params.yaml.
        method: the member, with its options.
        training: how long.
    """

    name: str
    method: Method
    training: ShortTraining


@dataclass(frozen=True)
class Search:
    """How a search compares pairs of rows and mask: it trains each briefly and takes the validation loss.

    Args:
        method: trains the masked parameters.
        training: how long.
        validation: rows of the validation loss.
    """

    method: MaskedMethod
    training: ShortTraining
    validation: pd.DataFrame


@dataclass(frozen=True)
class ChoiceJob:
    """What one seed of a selection needs.

    Args:
        name: the selection's name, for messages.
        strategy: as in params.yaml.
        selector: the member, with its options.
        seed: of random choices, a classifier's new head, an adapter's start.
        rows: kept rows.
        warmup: the adapter whose parameters are chosen among; None for the base's.
        search: how pairs are compared; None where nothing is searched.
        material: what the base knew, of the sources that the selector protects; None where it protects nothing.
    """

    name: str
    strategy: str
    selector: Selector
    seed: int
    rows: pd.DataFrame
    warmup: Warmup | None = None
    search: Search | None = None
    material: Material | None = None

    @property
    def label(self) -> str:
        """Name the job in lines of progress."""
        return f"select {self.name}, seed {self.seed}"


def choose_seed(job: ChoiceJob, base: Base, folder: Path, work: Path) -> Choice:
    """Choose, and write the choice into a folder.

    Args:
        job: what to choose.
        base: the pristine base.
        folder: of this seed; written anew.
        work: where warm-up and scoring go on after an interruption; must be of this seed alone.

    Raises:
        UserError: whatever the selector, the scoring or the training raises.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pool = _pool(job, base, folder, work)
    try:
        choice = job.selector.choose(pool, job.seed)
    except UserError as error:
        option = str(error).partition(":")[0].partition(".")[0]
        if option not in type(job.selector).model_fields:
            raise
        raise UserError(f"selections.{job.name}.options.{error}") from None
    adapter: dict[str, Any] | None = None
    if job.warmup is not None:
        adapter = {"method": job.warmup.name, "options": job.warmup.method.model_dump(mode="json")}
    write_choice(
        folder,
        job.rows,
        choice,
        base_digest=base.digest,
        strategy=job.strategy,
        options=job.selector.model_dump(mode="json"),
        adapter=adapter,
        picture=draw_choice(choice),
    )
    return choice


def _pool(job: ChoiceJob, base: Base, folder: Path, work: Path) -> Pool:
    """Load the model that is chosen among: the base, or the base with the warmed adapter; none for rows alone."""
    from knowtune.selectors.pools import ModelPool

    if not job.selector.masks:
        return Pool(job.rows)
    from knowtune.training.dataset import encode
    from knowtune.training.fit import seed_everything

    encoded = encode(base.tokenizer(), job.rows, base, job.label)
    seed_everything(job.seed)  # a classifier's new head is random, and takes part in the scoring
    pristine = base.model()
    model: torch.nn.Module = pristine
    adapter = None
    if job.warmup is not None:
        from knowtune.methods.peft_adapters import load_adapter

        adapter = folder / ADAPTER
        _warm(job, job.warmup, base, pristine, encoded, adapter, work / "warmup")
        model = load_adapter(base.model(), adapter, trainable=True)
    return ModelPool(
        rows=job.rows,
        encoded=encoded.rows,
        model=model,
        task=base.task,
        pattern=getattr(job.selector, "pattern", None),
        adapter="default" if adapter is not None else None,
        seed=job.seed,
        label=job.label,
        work=work,
        material=job.material,
        trial=None if job.search is None else partial(_try, job, job.search, base, adapter, work / "trial"),
    )


def _warm(
    job: ChoiceJob, warmup: Warmup, base: Base, model: PreTrainedModel, rows: Rows, folder: Path, work: Path
) -> None:
    """Train a fresh adapter for some steps; at its start half of LoRA has no gradient at all, for B = 0."""
    from knowtune.training.fit import Training, fit

    method = warmup.method
    training = Training(
        rows=rows, recipe=warmup.training.recipe(len(rows)), compute=base.compute, task=base.task, seed=job.seed,
        work=work, method=method, label=f"{job.label}: warm-up",
    )  # fmt: skip
    fitted = fit(method.attach(model), training)
    folder.mkdir(parents=True)
    method.save(fitted.model, folder)


def _try(
    job: ChoiceJob,
    search: Search,
    base: Base,
    adapter: Path | None,
    work: Path,
    rows: Sequence[int],
    mask: Mapping[str, torch.Tensor],
    seed: int,
) -> float:
    """Train a pair of rows and mask briefly; return less the mean loss of the validation rows."""
    from knowtune.training.dataset import encode
    from knowtune.training.fit import Training, fit, seed_everything

    tokenizer, chosen = base.tokenizer(), job.rows.iloc[list(rows)]
    label = f"{job.label}: trial of {len(chosen)} rows, {sum(map(len, mask.values())):,} parameters"
    encoded = encode(tokenizer, chosen, base, label)
    seed_everything(seed)
    shutil.rmtree(work, ignore_errors=True)
    training = Training(
        rows=encoded, recipe=search.training.recipe(len(encoded)), compute=base.compute, task=base.task, seed=seed,
        work=work, method=search.method, label=label,
    )  # fmt: skip
    fitted = fit(search.method.attach_masked(base.model(), mask, adapter), training)
    judged = base.task.evaluator.judge(fitted.model, tokenizer, search.validation, search.training.batch_size, label)
    return -float(judged["loss"].mean())
