"""One stage's run, and one below it for each of its seeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.core.pipeline import flatten
from stages.tracking.book import LINE, Book, metrics_of, open_child, params_of, tags_of
from stages.tracking.chain import link_models
from stages.tracking.digests import joint_md5
from stages.tracking.lineage import Digest, Lineage, datasets, is_code, md5s, read_lineage
from stages.tracking.models import log_adapter
from stages.tracking.numbers import Seed, read_numbers
from stages.tracking.spool import INTERRUPTED

PAGES = (".html", ".md", ".json", ".svg", ".png")
LARGEST_PAGE = 5_000_000  # bytes
IDENTITY = {"base": "base.identity"}  # as on the parent; `base` is the model's setting, a folder
DIGESTS = ("base_digest", "weights_digest")


def begin_stage(book: Book, note: Mapping[str, Any]) -> str:
    """Open the run of a stage, so that it is seen while it runs."""
    tags = {"kind": "stage", "dvc.stage": note["stage"], "mlflow.source.name": note["stage"]}
    return open_child(book, note["id"], note["stage"], note["started"], book.parent, tags)


def record_stage(book: Book, note: Mapping[str, Any], folder: Path) -> None:
    """Record a stage that ended.

    Args:
        book: of its reproduction.
        note: what the stage handed in.
        folder: the note's own, with links to deps and outs.
    """
    run_id = begin_stage(book, note)
    if note.get("shed"):
        book.client.set_tag(run_id, "files", "not recorded: too much waited for a store that did not answer")
    lineage = read_lineage(note, folder)
    good = note["code"] == 0
    metrics, seeds = read_numbers(lineage.out_paths()) if good else ({}, {})
    cost = {"seconds": note["seconds"], "peak_memory_bytes": note["peak_bytes"]}
    tags = {
        "dvc.deps": joint_md5(md5s(lineage.deps)),
        "dvc.outs": joint_md5(md5s(lineage.outs)),
        "mlflow.note.content": f"{note['description']}\n\n```\n{note['command']}\n```",
    }
    if not good:
        tags["error"] = str(note["error"]).strip().rpartition("\n")[2][:LINE]
        book.client.log_text(run_id, str(note["error"]), "error.txt")
    book.client.log_batch(
        run_id, metrics_of({**metrics, **cost}, note["ended"]), params_of(note["params"].items()), tags_of(tags)
    )
    _log_lineage(book, run_id, note, lineage)
    _log_pages(book, run_id, note, lineage.out_paths())
    runs = {name: (_record_seed(book, note, run_id, name, seed, lineage), seed) for name, seed in seeds.items()}
    if good:
        link_models(book, note, folder, lineage, {"": (run_id, Seed()), **runs})
    for seed_run, _ in runs.values():
        book.client.set_terminated(seed_run, "FINISHED", int(note["ended"] * 1000))
    book.client.set_terminated(run_id, status_of(note["code"]), int(note["ended"] * 1000))


def status_of(code: int) -> str:
    """Return MLflow's status for an exit code."""
    return {0: "FINISHED", INTERRUPTED: "KILLED"}.get(code, "FAILED")


def _log_lineage(book: Book, run_id: str, note: Mapping[str, Any], lineage: Lineage) -> None:
    """Log data as datasets, and everything, code too, as one file."""
    inputs = [*datasets(data_of(note, lineage), lineage.paths, "dep"), *datasets(lineage.outs, lineage.paths, "out")]
    if inputs:
        book.client.log_inputs(run_id, datasets=inputs)
    everything = {"stage": note["stage"], "cmd": note["command"], "deps": lineage.deps, "outs": lineage.outs}
    book.client.log_dict(run_id, everything, "dvc.json")


def data_of(note: Mapping[str, Any], lineage: Lineage) -> dict[str, Digest]:
    """Return what a stage read, without code."""
    cwd, code_files = Path(note["cwd"]), note.get("code_files", ())
    return {name: d for name, d in lineage.deps.items() if name not in code_files and not is_code(cwd, name)}


def _log_pages(book: Book, run_id: str, note: Mapping[str, Any], written: Mapping[str, Path]) -> None:
    """Log what a person reads; the parent gets the pages of stages that DVC lists metrics of."""
    import shutil
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for name, path in written.items():
            if path.is_file() and name.endswith(PAGES) and path.stat().st_size <= LARGEST_PAGE:
                shutil.copyfile(path, Path(folder) / Path(name).name)  # a link is named by its number
        if any(Path(folder).iterdir()):
            book.client.log_artifacts(run_id, folder)
            if note["metrics"]:
                book.client.log_artifacts(book.parent, folder)


def _record_seed(book: Book, note: Mapping[str, Any], stage_run: str, name: str, seed: Seed, lineage: Lineage) -> str:
    """Record what belongs to one seed below its stage, and return its run."""
    member = note["stage"].rpartition("@")[2]
    tags = {"kind": "seed", "dvc.stage": note["stage"], "seed": name.removeprefix("seed-")}
    tags |= {key: seed.card[key] for key in DIGESTS if key in seed.card}
    title = f"{note['stage']} {name}"
    run_id = open_child(book, f"{note['id']}/{name}", title, note["started"], stage_run, tags)
    curve = [metric for key, step, loss in seed.curve for metric in metrics_of({key: loss}, note["ended"], step)]
    card = {IDENTITY.get(key, key): value for key, value in flatten(seed.card) if key and key not in DIGESTS}
    book.client.log_batch(
        run_id, [*curve, *metrics_of(seed.metrics, note["ended"])], params_of({"seed": tags["seed"], **card}.items())
    )
    if read := list(datasets(data_of(note, lineage), lineage.paths, "dep")):
        book.client.log_inputs(run_id, datasets=read)
    log_adapter(book.client, run_id, f"{member}-{name}", seed, note)
    return run_id
