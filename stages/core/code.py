"""Which code a stage runs, exactly: the modules that it imports and the family members that its params name, by digest.

Each stage depends on one small file that says so, e.g. `data/code/train/lora.json`, in place of lists of modules in
dvc.yaml. The `validate` stage writes these files; `plan`, `run` and the flow refresh them before they ask DVC. Keys of
the work folder take the same digests. See docs/decisions/0038.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from hashlib import sha256
from operator import attrgetter
from pathlib import Path
from typing import Any

import grimp
from grimp.exceptions import SourceSyntaxError
from pydantic import BaseModel

from knowtune.common.errors import UserError
from knowtune.common.files import parse_json, text_digest, write_json
from stages.core.champion import FOLDER as CHAMPION
from stages.core.champion import ensure_champion
from stages.core.members import FAMILIES, OPTIONAL, REGISTRIES, Section
from stages.core.pipeline import CHECK, Stage, read_stages
from stages.core.schema import Params
from stages.core.syntax import KnownDigests

TOP = Path(__file__).resolve().parents[2]
PROGRAM = re.compile(r"python -m (stages\.\w+)")
# They decide whether a stage runs, how it is started and what is told of it, not what it computes: a clearer message
# about params.yaml must not cost an hour of training. `work` takes up only what the digests here say is the same.
_CORE = "code faults lock members params pipeline plain renamed schema shape syntax work"
PLUMBING = (*(f"stages.core.{name}" for name in _CORE.split()), "stages.runner", "stages.tracking")


def code_of(module: str, section: Section, params: Params, sources: Sources | None = None) -> dict[str, str]:
    """Digest the code that a stage runs.

    Args:
        module: of the stage, e.g. "stages.train".
        section: what params.yaml says of its member, e.g. `params.runs["lora"]`; None for a stage without members.
        params: the whole of it.
        sources: as read for other stages.

    Returns:
        Path of a module, or of a file that one reads, to digest; sorted. First of what params.yaml may leave unsaid:
        of defaults, and of a whole section where the stage reads one.
    """
    sources = sources or Sources()
    reached: set[str] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        if name in reached or _is_plumbing(name):
            continue
        reached.add(name)
        todo += sources.graph.find_modules_directly_imported_by(name)
        package = name.rpartition(".")[0]
        if package and package not in REGISTRIES:
            todo.append(package)  # Python runs its __init__ first
        if name in FAMILIES:
            registry, named = FAMILIES[name]
            members = [registry[member] for member in named(module, section, params) if member in registry]
            todo += [target.partition(":")[0] for target in members]
    code = sources.digests(name for name in reached if name not in REGISTRIES)
    kind = Params if section is None else type(section)
    said = {f"params {key}": _digest_section(params, key) for key in (OPTIONAL.get(module),) if key is not None}
    return {f"defaults of {kind.__name__}": _digest_defaults(kind), **said, **code}


def _digest_section(params: Params, key: str) -> str:
    """Digest a section of params.yaml; none where it says nothing."""
    section = getattr(params, key)
    return text_digest(None if section is None else section.model_dump())[:16]


@cache
def _digest_defaults(kind: type[BaseModel]) -> str:
    """Digest the defaults of a section: an edit of one is an edit of what a stage computes."""
    return text_digest(list(_defaults(kind.model_json_schema())))[:16]


def _defaults(schema: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of every default in a JSON schema."""
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            yield from [(path, value)] if key == "default" else _defaults(value, f"{path}/{key}")
    elif isinstance(schema, list):
        for number, value in enumerate(schema):
            yield from _defaults(value, f"{path}/{number}")


class Sources:
    """The project's code as it lies there now: every import of library and stages, those in functions too.

    Raises:
        UserError: a module is no Python; says which and where.
    """

    def __init__(self) -> None:
        try:
            self.graph = grimp.build_graph("knowtune", "stages", exclude_type_checking_imports=True, cache_dir=None)
        except SourceSyntaxError as error:
            raise UserError(str(error)) from None
        self._read: dict[Path, str] = {}
        self.known = KnownDigests(TOP / ".work/digests.json")

    def digests(self, modules: Iterable[str]) -> dict[str, str]:
        """Digest modules, and the files that they read from their own folder, by path."""
        files = [_file_of(name) for name in modules]
        files += [path for path in _read_by(files) if path not in files]
        return dict(sorted((path.relative_to(TOP).as_posix(), self._digest(path)) for path in files))

    def _digest(self, path: Path) -> str:
        """Digest a module by what it does, any other file by its bytes."""
        if path not in self._read:
            content = path.read_bytes()
            is_code = path.suffix == ".py"
            self._read[path] = self.known.digest(content) if is_code else sha256(content).hexdigest()[:16]
        return self._read[path]


def refresh_code(folder: Path, params: Params) -> None:
    """Write the code files of a project or workspace where DVC finds them, before it is asked what has changed.

    The champion's folder is no stage's out either, and is made where it is missing.
    """
    ensure_champion(folder / CHAMPION)
    (out,) = read_stages(folder)[CHECK].outs
    write_code(folder, folder / out, params)


def write_code(folder: Path, out: Path, params: Params) -> None:
    """Write a file for each stage with the digests of its code, at the path that the stage depends on.

    A file that says the same already is left as it is, and what no stage depends on is removed.

    Args:
        folder: the project or a workspace.
        out: the folder of the files.
        params: the project's own.
    """
    sources, wanted = Sources(), {}
    for stage in read_stages(folder).values():
        section = attrgetter(stage.family)(params)[stage.member] if stage.family else None
        for path in (folder / dep for dep in stage.deps):
            if path.is_relative_to(out):
                wanted[path] = code_of(_module_of(stage), section, params, sources)
    for path in sorted(out.rglob("*"), reverse=True):
        if path.is_file() and path not in wanted:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    for path, digests in wanted.items():
        if not _says(path, digests):
            write_json(path, digests)
    sources.known.keep()


def _says(path: Path, digests: Mapping[str, str]) -> bool:
    """Tell whether a file says this already."""
    with suppress(OSError, ValueError):
        return bool(parse_json(path) == digests)
    return False


def _is_plumbing(module: str) -> bool:
    """Tell whether a module, or the package that it lies in, is plumbing."""
    return any(module == name or module.startswith(f"{name}.") for name in PLUMBING)


def _read_by(files: Iterable[Path]) -> list[Path]:
    """List the files that modules read from their own folder, such as templates: those that they name, in turn."""
    todo, read = list(files), []
    beside = {folder: [p for p in folder.iterdir() if _is_data(p)] for folder in {path.parent for path in todo}}
    while todo:
        reader = todo.pop()
        text = reader.read_text(encoding="utf-8") if beside[reader.parent] else ""
        new = [path for path in beside[reader.parent] if path.name in text and path not in read]
        read += new
        todo += new
    return read


def _is_data(path: Path) -> bool:
    """Tell whether a file in a folder of code is no code."""
    return path.is_file() and path.suffix not in (".py", ".pyc")


def _file_of(module: str) -> Path:
    """Find a module's file."""
    path = TOP / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _module_of(stage: Stage) -> str:
    """Read from a stage's command which module it runs."""
    program = PROGRAM.search(stage.command)
    assert program is not None, stage.command
    return program[1]
