"""What git says of the project, and a second work tree of it; "" or None where there is no git."""

from __future__ import annotations

import subprocess
from pathlib import Path

from knowtune.common.errors import UserError


def commit_of(folder: Path) -> str:
    """Return the commit that a folder is at."""
    return _ask(folder, "rev-parse", "HEAD")


def changes_of(folder: Path) -> str:
    """Return what differs from the commit, as a patch that git can apply."""
    return _ask(folder, "diff", "HEAD", "--binary", strip=False)


def untracked_in(folder: Path, *below: str) -> list[str]:
    """Name the files below some paths that git does not know and does not ignore."""
    return _ask(folder, "ls-files", "--others", "--exclude-standard", "--", *below).splitlines()


def add_worktree(project: Path, target: Path, commit: str) -> None:
    """Make a work tree at a commit, on no branch.

    Raises:
        UserError: git has no such commit, or cannot make the folder.
    """
    done = _run(project, "worktree", "add", "--detach", str(target), commit)
    if done.returncode != 0:
        heal = "; `git fetch` may bring the commit" if "invalid reference" in done.stderr else ""
        raise UserError(f"git worktree add {target} {commit[:12]}: {done.stderr.strip()}{heal}")


def apply_patch(folder: Path, patch: Path) -> None:
    """Apply what `changes_of` gave.

    Raises:
        UserError: it does not fit.
    """
    done = _run(folder, "apply", "--whitespace=nowarn", str(patch.resolve()))
    if done.returncode != 0:
        raise UserError(f"{patch.name}: git cannot apply it: {done.stderr.strip()}")


def _ask(folder: Path, *arguments: str, strip: bool = True) -> str:
    """Return what git prints; "" where it refuses, as where there is no git."""
    try:
        done = _run(folder, *arguments)
    except OSError:
        return ""
    return "" if done.returncode != 0 else done.stdout.strip("\n") if strip else done.stdout


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git in a folder."""
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
