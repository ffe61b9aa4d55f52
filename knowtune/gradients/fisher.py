"""Diagonal empirical Fisher information of a model, and each example's own share of it.

    F_j = 1/N sum_n g_nj^2      g_n = d l_n / d theta        (Sung, Nair, Raffel, arXiv 2111.09839, sec. 3.1)
    s_n = sum_{j in mask} g_nj^2

theta   the parameters in scope: all of a model, those that match a pattern, or an attached adapter's
l_n     example n's loss: a language model's mean over the target tokens, a classifier's of its label
y_n     the true label; or expected ones, F_j = 1/N sum_n E_{y ~ p(y|x_n)} g_nj(y)^2: exact over a classifier's
        classes; for a language model drawn from its prediction of each target token, given the true tokens before it

The squared gradient is that of each example, never of a batch's mean. The authors' code gets it by batches of one; here
one batched pass does (`knowtune.gradients.per_example`), and the first two examples are checked against that
definition. A model for which they differ is scored one example at a time.

As in the authors' code, dropout is off: a model that has just been loaded is in evaluation mode, and theirs is scored
before a trainer touches it. Departures: the mean per target token, so that long examples do not count more; 1/N, which
changes no ranking; `max_loss`, ours, against mislabelled examples, whose loss is the highest.

A classifier's new head is random, and every gradient depends on it. It follows the seed of a selection here and that of
a run in training, so where the two seeds differ, the head that is scored is another than the head that is trained.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from knowtune.common.errors import UserError, nearest
from knowtune.gradients.accumulators import FisherDiagonal, SquaredNorms
from knowtune.gradients.scorer import Scorer

if TYPE_CHECKING:
    import torch

    from knowtune.gradients.options import Scoring
    from knowtune.tasks.base import Task


def parameters_in(
    model: torch.nn.Module, pattern: str | Sequence[str] | None = None, adapter: str | None = None
) -> dict[str, torch.nn.Parameter]:
    """Name the parameters in a scope, in the model's order; a shared one stands once, under its first name.

    Args:
        model: any.
        pattern: globs on names, e.g. "*.mlp.*"; None for all.
        adapter: the name of an attached PEFT adapter, to which the scope is then limited.

    Raises:
        UserError: nothing matches, there is no such adapter, or parameters have no storage.
    """
    named = dict(model.named_parameters())
    if adapter is not None:
        if adapter not in getattr(model, "peft_config", {}):
            known = ", ".join(getattr(model, "peft_config", {})) or "none; attach one first"
            raise UserError(f"scope: no adapter is called {adapter!r}; attached: {known}")
        heads = ".modules_to_save."  # trained whole, whatever is chosen
        own = {name: p for name, p in named.items() if adapter in name.split(".") and heads not in name}
        named = {name: p for name, p in own.items() if p.requires_grad}
        if own and not named:
            raise UserError(
                f"scope: adapter {adapter!r} is frozen or not active; `model.set_adapter({adapter!r})`, or load it "
                "with is_trainable=True"
            )
    globs = [pattern] if isinstance(pattern, str) else pattern
    for glob in globs or ():
        if not any(fnmatchcase(name, glob) for name in named):
            hint = _nearest_glob(glob, named)
            raise UserError(
                f"pattern: {glob!r} matches no parameter" + (f"; did you mean {hint!r}?" if hint else "")
                + f"; there are {len(named)}, e.g. {', '.join(list(named)[:3])}"
            )  # fmt: skip
    if globs:
        named = {name: p for name, p in named.items() if any(fnmatchcase(name, glob) for glob in globs)}
    _require_values(named)
    return named


def _require_values(named: Mapping[str, torch.nn.Parameter]) -> None:
    """Refuse parameters that have no plain values, so no gradients."""
    packed = [name for name, p in named.items() if not p.is_floating_point()]
    if packed:
        raise UserError(
            f"{len(packed)} parameters are quantised, e.g. {packed[0]}: their entries have no gradient to score. Use a "
            "base that is not quantised, or choose among an adapter's parameters"
        )
    without = [name for name, p in named.items() if p.is_meta]
    if without:
        raise UserError(
            f"{len(without)} parameters are on the meta device, e.g. {without[0]}: they have no values to score. "
            "Load the model's weights first"
        )


def _nearest_glob(glob: str, names: Iterable[str]) -> str:
    """Return a glob like this one that matches one of the names at least, or "" where none is similar."""
    names = list(names)
    parts = sorted({part for name in names for part in name.split(".")})
    words = [word if set(word) & set("*?[") else nearest(word, parts) for word in glob.split(".")]
    mended = ".".join(words)
    matches = "" not in words and mended != glob and any(fnmatchcase(name, mended) for name in names)
    return mended if matches else nearest(glob, names)


def fisher_diagonal(
    model: torch.nn.Module,
    rows: Sequence[Any],
    task: Task,
    parameters: Mapping[str, torch.nn.Parameter],
    scoring: Scoring,
    **options: Any,
) -> dict[str, torch.Tensor]:
    """Return F_j of every parameter in scope, in float32, by name and in the parameter's shape.

    Args:
        model: left as it is: flags, gradients, mode and generators.
        rows: encoded by the task.
        task: which loss, and what is expected.
        parameters: see `parameters_in`.
        scoring: labels, draws, bound of the loss, batch size.
        options: `seed` of drawn labels; `label` of the progress bar; `ids` that errors name rows by; `work`, a folder
            where an interrupted scoring goes on, which must be of this model, these rows and settings alone.

    Raises:
        UserError: no row, or a gradient that is not finite.
    """
    scorer = Scorer(model, rows, task, parameters, scoring, **options)
    return {name: total.div_(len(rows)) for name, total in scorer.run(FisherDiagonal(parameters)).items()}


def row_traces(
    model: torch.nn.Module,
    rows: Sequence[Any],
    task: Task,
    parameters: Mapping[str, torch.nn.Parameter],
    scoring: Scoring,
    mask: Mapping[str, torch.Tensor] | None = None,
    **options: Any,
) -> torch.Tensor:
    """Return s_n of every row, over a mask of flat indices or over all parameters in scope  # (rows,), float64, CPU.

    Arguments and errors as for `fisher_diagonal`.
    """
    if mask is not None:
        parameters = {name: parameters[name] for name, indices in mask.items() if len(indices)}
    scorer = Scorer(model, rows, task, parameters, scoring, **options)
    return scorer.run(SquaredNorms(len(rows), parameters, mask))["squared_norms"]
