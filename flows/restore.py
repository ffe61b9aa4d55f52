"""`python -m flows.restore VERSION`: bring a version's code, params, lock and artefacts back, into a new work tree.

The code comes from git (the version's commit, and what differed from it), params and lock from the version's record,
artefacts from DVC's cache, or from its remote where the cache has lost them. Then every digest of the lock is compared.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cli.workspace import add_arguments, open_workspace, params_file
from flows.git import add_worktree, apply_patch
from flows.promote import quiet
from flows.record import PATCH, TREE
from knowtune.common.errors import UserError
from knowtune.common.secrets import mask, mask_output
from stages.core.params import PARAMS, load_params
from stages.tracking.digests import digest, hidden_by
from stages.tracking.lineage import locked_stages

EXAMPLE = "python -m flows.restore champion\n  python -m flows.restore 3 --into ../third"
LOCK = Path("dvc.lock")
PLACE = Path("workspaces/restored")  # git ignores it


@dataclass(frozen=True)
class Restored:
    """What came back.

    Args:
        folder: the work tree.
        commit: that it is at.
        equal: paths whose digests are those of the lock.
        differ: paths that are missing or have other digests, each with which.
    """

    folder: Path
    commit: str
    equal: list[str]
    differ: list[str]


def restore(project: Path, spec: str, into: Path | None = None) -> Restored:
    """Bring a version back.

    Args:
        project: the project's folder or a workspace's.
        spec: a version's number, alias or address.
        into: the folder to make; below `workspaces/` by default.

    Raises:
        UserError: no such version, its record is lost, the folder is there already, or git has not its commit.
    """
    from stages.tracking.fetching import find_version
    from stages.tracking.registry import RECORD

    params = load_params(project / PARAMS)
    registry, version = find_version(spec, params.promote.model if params.promote is not None else "knowtune")
    folder = (into or PLACE / f"{version.name}-{version.number}").resolve()
    if folder.exists():
        raise UserError(f"{folder}: is there already; remove it (`git worktree remove {folder}`), or name another")
    commit = version.tags.get("git.commit", "")
    if not commit or " " in commit:
        raise UserError(f"{version.uri}: was made without git, so that its code cannot be brought back")
    with TemporaryDirectory() as top:
        record = registry.fetch(version, RECORD, Path(top))
        folder.parent.mkdir(parents=True, exist_ok=True)
        add_worktree(project, folder, commit)
        if (record / PATCH).is_file():
            apply_patch(folder, record / PATCH)
        for name in (PARAMS, LOCK):
            shutil.copyfile(record / name, folder / name)
        shutil.copytree(record / TREE, folder, dirs_exist_ok=True)
    _share_cache(project, folder)
    _check_out(folder)
    equal, differ = _compare(folder)
    return Restored(folder, commit, equal, differ)


def _share_cache(project: Path, folder: Path) -> None:
    """Let DVC of the work tree know the project's cache, and the remotes that only this machine knows."""
    local = Path(".dvc/config.local")
    (folder / local.parent).mkdir(exist_ok=True)
    if (project / local).is_file():
        shutil.copyfile(project / local, folder / local)
    _dvc(folder, "cache", "dir", "--local", str((project / _dvc(project, "cache", "dir").strip()).resolve()))


def _check_out(folder: Path) -> None:
    """Bring artefacts from the cache; what it has lost, from the remote where there is one."""
    _dvc(folder, "checkout", "--force", "--allow-missing", "--quiet")
    if any(_missing(folder)) and _dvc(folder, "remote", "list").strip():
        print("the cache has lost files; fetching them from the remote", flush=True)
        _dvc(folder, "pull", "--force", "--allow-missing", "--quiet", check=False)


def _missing(folder: Path) -> Iterator[str]:
    """Yield the outs of the lock that are not there."""
    for stage in locked_stages(folder / LOCK).values():
        yield from (name for name in stage["outs"] if not (folder / name).exists())


def _compare(folder: Path) -> tuple[list[str], list[str]]:
    """Compare all that the lock names with what lies there: paths that are equal, and what is wrong with the others."""
    hidden, equal, differ = hidden_by(folder), list[str](), list[str]()
    wanted: dict[str, set[str]] = {}  # several where a stage has not run since another wrote what it reads
    for stage in locked_stages(folder / LOCK).values():
        for name, entry in (*stage["deps"].items(), *stage["outs"].items()):
            wanted.setdefault(name, set()).add(str(entry["md5"]))
    for name, md5s in sorted(wanted.items()):
        path = folder / name
        if not path.exists():
            differ.append(f"{name}: missing")
        elif digest(path, name, hidden)["md5"] not in md5s:
            differ.append(f"{name}: other bytes than the lock says")
        else:
            equal.append(name)
    return equal, differ


def _dvc(folder: Path, *arguments: str, check: bool = True) -> str:
    """Run a command of DVC's in a folder.

    Raises:
        UserError: it fails.
    """
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise UserError(f"dvc {arguments[0]}: {mask(done.stderr.strip())}")
    return done.stdout


def main() -> int:
    """Parse the command line; errors of the user's are printed without a traceback."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.restore",
        description=__doc__,
        epilog=f"example:\n  {EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    parser.add_argument("version", metavar="VERSION", help="a number, an alias such as champion, or models:/NAME/3")
    parser.add_argument("--into", type=Path, metavar="FOLDER", help=f"default: {PLACE}/NAME-VERSION")
    args = parser.parse_args()
    mask_output()
    quiet()
    try:
        done = restore(open_workspace(params_file(args), args.data), args.version, args.into)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"restored: {done.folder}, at {done.commit[:12]}; {len(done.equal)} paths have the digests of its dvc.lock")
    for line in done.differ:
        print(f"differs: {line}", file=sys.stderr)
    return 1 if done.differ else 0


if __name__ == "__main__":
    sys.exit(main())
