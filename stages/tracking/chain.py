"""Models as inputs and outputs of runs, so that MLflow's page shows the chain: rows, adapter, merged model, results.

By convention, as all of tracking: a folder `seed-N` with a card is a model, which carries the DVC digest of its out.
What a stage read is found again by that digest, whichever reproduction made it. DVC keeps the bytes of what is not
logged as a model to load.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.checkpoints.cards import ADAPTER_CARD, MERGED
from stages.core.pipeline import flatten
from stages.tracking.book import Book, metrics_of, params_of
from stages.tracking.lineage import Digest, Lineage, locked_outs
from stages.tracking.numbers import Seed, whole_json
from stages.tracking.spool import LOCK
from stages.tracking.store import never_twice

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

OUT, PATH, SEED = "dvc.out", "dvc.path", "seed"  # tags of a model: the digest of its out, its folder, its seed
CARRIED = ("base_digest", "weights_digest", "kind", "method")  # of a card, as tags of a model


def link_models(
    book: Book, note: Mapping[str, Any], folder: Path, lineage: Lineage, runs: Mapping[str, tuple[str, Seed]]
) -> None:
    """Write which models a stage read and which it made onto the runs of its seeds, and what it read onto its own.

    Args:
        book: of the reproduction.
        note: of the stage.
        folder: the note's own.
        lineage: what the stage read and wrote.
        runs: "" to the stage's run, and seed, e.g. "seed-0", to its run, with what is known of each.
    """
    from mlflow.entities import LoggedModelInput, LoggedModelOutput

    read, member = list(_read_models(book, note, folder, lineage)), note["stage"].rpartition("@")[2]
    own = ((key, value) for key, value in note["params"].items() if member in key.split("."))
    params = {param.key: param.value for param in params_of(own)}
    made: dict[str, list[LoggedModel]] = {}
    for out, path in lineage.out_paths().items():
        for name, (run, _) in runs.items():
            card = _card(path / name) if name else None
            if card is not None:
                model = _model_of(book, run, f"{member}-{name}", card, params)
                tags = {OUT: lineage.outs[out]["md5"], PATH: f"{out}/{name}", SEED: name}
                book.client.set_logged_model_tags(model.model_id, tags)
                made.setdefault(name, []).append(model)
    pools = any(key.endswith(f"{member}.seeds") and value == "all" for key, value in flatten(note["params"]))
    for name, (run, seed) in runs.items():
        inputs = [model for model in read if pools or name in ("", model.tags.get(SEED))]
        before = book.client.get_run(run)
        known = {model.model_id for model in (before.inputs.model_inputs if before.inputs else ())}
        fresh = [LoggedModelInput(model.model_id) for model in inputs if model.model_id not in known]
        if fresh:
            book.client.log_inputs(run, models=fresh)
        written = {model.model_id for model in (before.outputs.model_outputs if before.outputs else ())}
        outputs = [LoggedModelOutput(m.model_id, 0) for m in made.get(name, []) if m.model_id not in written]
        if outputs:
            book.client.log_outputs(run, outputs)
        judged = made.get(name) or inputs
        if name and len(judged) == 1 and seed.metrics:  # so the model's own page shows them too, with what it was on
            rows = next(((d, e["md5"]) for d, e in lineage.deps.items() if d.endswith(".jsonl")), (None, None))
            numbers = metrics_of(seed.metrics, note["ended"], model=judged[0].model_id, rows=rows)
            book.client.log_batch(run, numbers)


def link_source(client: MlflowClient, experiment: str, run: str, weights_digest: str) -> None:
    """Write onto a promotion's run which merged model it takes, the newest with these weights, where it is known."""
    from mlflow.entities import LoggedModelInput

    same = client.search_logged_models([experiment], f"tags.weights_digest = '{weights_digest}'", max_results=100)
    made = [model for model in same if OUT in model.tags and "kind" in model.tags]
    if made:
        client.log_inputs(run, models=[LoggedModelInput(made[0].model_id)])


def _read_models(book: Book, note: Mapping[str, Any], folder: Path, lineage: Lineage) -> Iterator[LoggedModel]:
    """Find the models that a stage read, by the digests of its deps."""
    known = locked_outs(folder / LOCK)
    if "@" not in note["stage"]:  # it reads what all members made, as the report does
        return
    named = {str(v) for _, value in flatten(note["params"]) for v in (value if isinstance(value, list) else [value])}
    for path in _folders(lineage.deps, known, named):
        md5 = (lineage.deps.get(path) or known[path])["md5"]
        yield from book.client.search_logged_models([book.experiment], f"tags.`{OUT}` = '{md5}'", max_results=100)


def _folders(deps: Mapping[str, Digest], known: Mapping[str, Digest], named: set[str]) -> Iterable[str]:
    """List the outs of others that a stage read; of a folder of many, those that its params name."""
    for dep, digest in deps.items():
        if dep in known:
            if str(digest["md5"]).endswith(".dir"):
                yield dep
        else:
            yield from (out for out in known if Path(out).parent == Path(dep) and Path(out).name in named)


def _card(folder: Path) -> dict[str, Any] | None:
    """Read the card of a model's folder; None where it is none."""
    for name in (MERGED, ADAPTER_CARD):
        if (folder / name).is_file():
            card = whole_json(folder / name)
            return card if isinstance(card, dict) else None
    return None


def _model_of(book: Book, run: str, name: str, card: Mapping[str, Any], params: dict[str, str]) -> LoggedModel:
    """Return the model of a seed's run: the one that can be loaded, else an entry without files, made once."""
    found = book.client.search_logged_models([book.experiment], f"source_run_id = '{run}'", max_results=1)
    if found:
        return found[0]
    tags = {key: str(card[key]) for key in CARRIED if key in card}
    tags["mlflow.model.isExternal"] = "true"  # so that MLflow says that it has no files
    kind = str(card.get("kind", "adapter"))
    with never_twice():
        model = book.client.create_logged_model(book.experiment, f"{name}-{kind}", run, tags, params, kind)
    return book.client.finalize_logged_model(model.model_id, "READY")
