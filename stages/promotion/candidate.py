"""The model that the gate lets through, read from the project's folder, sound by dvc.lock, and what describes it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowtune.checkpoints.cards import CARD, COMPOSED, MERGED
from knowtune.common.errors import UserError
from knowtune.common.files import file_digest, read_card, read_json, read_rows, text_digest
from knowtune.evaluation.model_card import Facts, licence_of, lost_facts, model_card
from stages.core.champion import compact, write_champion
from stages.core.params import load_params
from stages.core.pipeline import CHECK, PROJECT, Stage, read_stages
from stages.core.schema import Params
from stages.promotion.verdict import GATE
from stages.tracking.digests import digest, hidden_by
from stages.tracking.lineage import locked_stages
from stages.tracking.models import base_folder

AGAIN = "`make run` brings all up to date and judges again"


@dataclass(frozen=True)
class Candidate:
    """A model that may be shipped.

    Args:
        folder: of the project or a workspace.
        params: of that folder.
        verdict: the gate's.
        run: of which it is.
        seed: the one to ship.
        model: the merged model's folder.
        evaluated: the folder of its run's results.
        card: of the merged model.
    """

    folder: Path
    params: Params
    verdict: Mapping[str, Any]
    run: str
    seed: int
    model: Path
    evaluated: Path
    card: Mapping[str, Any]

    @property
    def title(self) -> str:
        """Name the model."""
        return f"{self.run} seed-{self.seed}"

    @property
    def key(self) -> str:
        """Give what a promotion of this model, as it was measured, is known by."""
        results = [file_digest(self.evaluated / name) for name in ("examples.jsonl", "metrics.json")]
        return text_digest([self.run, self.seed, self.card["weights_digest"], *results])[:24]

    @property
    def base(self) -> Path | None:
        """Return the base's folder where the model is an adapter on it."""
        if not (self.model / COMPOSED).is_file():
            return None
        return base_folder(self.folder, read_stages(self.folder)["base"].outs)


def read_candidate(folder: Path, verdict: Mapping[str, Any]) -> Candidate:
    """Read the model that a verdict ships."""
    params, stages = load_params(folder / "params.yaml"), read_stages(folder)
    run, seed = str(verdict["run"]), int(verdict["seed"])
    merge, evaluate = ("merge", "evaluate-run") if run in params.runs else ("mix", "evaluate-mixture")
    if f"{merge}@{run}" not in stages:
        raise UserError(f"params.yaml: names no run and no mixture {run!r}, which the gate ships; {AGAIN}")
    model, evaluated = (folder / stages[f"{stage}@{run}"].outs[0] for stage in (merge, evaluate))
    model = model / f"seed-{seed}"
    card = read_card(model / MERGED, {"base_digest": str, "weights_digest": str, "task": dict, "example": dict}, merge)
    return Candidate(folder, params, verdict, run, seed, model, evaluated, card)


def require_sound(candidate: Candidate) -> None:
    """Refuse a verdict that is not of what lies there now: params, code, models, results, champion.

    Raises:
        UserError: says what differs from dvc.lock.
    """
    folder = candidate.folder
    locked, hidden = locked_stages(folder / "dvc.lock"), hidden_by(folder)
    mixing = [f"mix@{candidate.run}"] if candidate.run in candidate.params.mixtures else []  # the gate reads runs' only
    for stage in (CHECK, GATE, *mixing):
        if stage not in locked:
            raise UserError(f"dvc.lock: does not know the stage {stage}; {AGAIN}")
        for kind in ("deps", "outs"):
            for name, entry in locked[stage][kind].items():
                path = folder / name
                if not path.exists():
                    raise UserError(f"{name}: is not here; `dvc pull` may bring it, or {AGAIN}")
                if digest(path, name, hidden)["md5"] != entry["md5"]:
                    raise UserError(f"{name}: is not what the gate judged (dvc.lock); {AGAIN}")


def digests_behind(folder: Path, run: str) -> dict[str, str]:
    """Return path to DVC's digest of all that a run's models and results were made from, and of these."""
    stages, locked = read_stages(folder), locked_stages(folder / "dvc.lock")
    ends = [f"{verb}@{run}" for verb in ("merge", "evaluate-run", "mix", "evaluate-mixture")]
    names = dict.fromkeys(above for end in ends if end in stages for above in (*_above(end, stages), end))
    return {
        path: str(entry["md5"])
        for name in names
        for kind in ("deps", "outs")
        for path, entry in locked.get(name, {}).get(kind, {}).items()
    }


def _above(name: str, stages: Mapping[str, Stage]) -> Iterator[str]:
    """Yield the stages that a stage needs, and what they need."""
    for other, stage in stages.items():
        needs = any(_overlap(out, dep) for out in stage.outs for dep in stages[name].deps)
        if other != name and needs:
            yield from _above(other, stages)
            yield other


def _overlap(out: str, dep: str) -> bool:
    """Tell whether one path is the other or lies in it."""
    return out == dep or dep.startswith(f"{out}/") or out.startswith(f"{dep}/")


def tags_of(candidate: Candidate, commit: str, changed: bool) -> dict[str, str]:
    """Give what the registry keeps of a version beside its files."""
    digests = digests_behind(candidate.folder, candidate.run)
    return {
        "run": candidate.run,
        "seed": str(candidate.seed),
        "task": json.dumps(candidate.card["task"], sort_keys=True),
        "base_digest": candidate.card["base_digest"],
        "weights_digest": candidate.card["weights_digest"],
        "git.commit": commit or "no git here",
        "git.dirty": str(changed).lower() if commit else "unknown",
        "dvc.lock": file_digest(candidate.folder / "dvc.lock"),
        "summary": candidate.verdict["summary"],
        **{f"dvc:{path}": md5 for path, md5 in digests.items()},
    }


def write_champion_of(candidate: Candidate, folder: Path, **more: Any) -> None:
    """Write what the gate will compare later models with."""
    examples = read_rows(candidate.evaluated / "examples.jsonl")
    metrics = read_json(candidate.evaluated / "metrics.json")
    numeric = candidate.params.task.kind == "regression"
    card = {
        "run": candidate.run,
        "seed": candidate.seed,
        "task": candidate.params.task.model_dump(),
        "base_digest": candidate.card["base_digest"],
        "weights_digest": candidate.card["weights_digest"],
        "metrics": metrics["seeds"][str(candidate.seed)],
        **more,
    }
    write_champion(folder, card, compact(examples, numeric=numeric))


def card_of(candidate: Candidate, uri: str) -> str:
    """Write the model's card."""
    params, folder = candidate.params, candidate.folder
    stages = read_stages(folder)
    metrics = read_json(candidate.evaluated / "metrics.json")
    base = folder / stages["base"].outs[0]
    described = read_json(base / CARD)
    baseline = next(folder / out for out in stages["baseline"].outs if out.endswith("metrics.json"))
    built = params.base.model == "embedded"  # from the authored facts, which have the project's licence
    rows, dropped = _rows_of(candidate, stages)
    return model_card(
        Facts(
            title=f"{params.promote.model if params.promote else 'model'}: {candidate.run}, seed {candidate.seed}",
            method=_method_of(candidate),
            base=described["identity"],
            licence=licence_of(PROJECT if built else base_folder(folder, stages["base"].outs)),
            rows=rows,
            dropped=dropped,
            summary=metrics["summary"],
            own=metrics["seeds"][str(candidate.seed)],
            pristine=read_json(baseline),
            lost=lost_facts(read_rows(candidate.evaluated / "examples.jsonl"), candidate.seed),
            verdict=candidate.verdict["summary"],
            uri=uri,
            needs_base=candidate.base is not None,
        )
    )


def _rows_of(candidate: Candidate, stages: Mapping[str, Stage]) -> tuple[dict[str, int], dict[str, int]]:
    """Count the training rows: read, rejected, dropped with reasons, kept. Of a mixture those of its first run."""
    params, folder = candidate.params, candidate.folder
    run = candidate.run if candidate.run in params.runs else params.mixtures[candidate.run].runs[0]
    filtered = folder / stages[f"filter@{params.selections[params.runs[run].selection].filter}"].outs[0]
    prepared = {Path(out).stem: folder / out for out in stages["prepare"].outs}
    kept, gone = read_rows(filtered / "kept.jsonl"), read_rows(filtered / "dropped.jsonl", ["id", "strategy", "reason"])
    planted = kept["id"].isin(read_rows(prepared["label_noise"], ["id"])["id"])
    counts = {
        "kept": len(kept),
        "dropped": len(gone),
        "of those kept planted damage": int(planted.sum()),
        "rejected before": len(read_rows(prepared["rejected"], ["id", "reason"])),
    }
    reasons = gone["strategy"].astype(str) + ": " + gone["reason"].astype(str).str.partition(":")[0]
    return counts, {str(reason): int(count) for reason, count in reasons.value_counts().head(10).items()}


def _method_of(candidate: Candidate) -> str:
    """Say how a model was trained or mixed."""
    params = candidate.params
    if candidate.run in params.runs:
        run = params.runs[candidate.run]
        kept = ", held to what its base knew" if run.preserve is not None else ""
        return f"Fine-tuned by `{run.type or run.method}` on the selection `{run.selection}`{kept}"
    mixture = params.mixtures[candidate.run]
    return f"A mixture by `{mixture.strategy}` of {mixture.sources}"
