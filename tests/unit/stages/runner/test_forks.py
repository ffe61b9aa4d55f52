"""The warm process under attack: killed and stopped at every point, half a message, folders no socket fits into."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from stages.runner.warm import HEAP, SOCKET, forward, warm_process, warm_up

ROOT = Path(__file__).resolve().parents[4]
PATIENCE = 60.0  # seconds
GONE = "the warm process does not answer"
STAGE = """
import pathlib, sys, time
from stages.runner import command
EXAMPLE = ""
def arguments(parser): parser.add_argument("--wait", action="store_true")
def run(args, params):
    with open("ran", "a") as file: print(file=file)
    while args.wait and not pathlib.Path("go").exists(): time.sleep(0.01)
if __name__ == "__main__": sys.exit(command.main("stages.toy"))
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A project with a stage that notes each time it runs, and a warm process that imports no libraries."""
    shutil.copytree(ROOT / "stages", tmp_path / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("knowtune", "params.yaml", "dvc.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "stages/toy.py").write_text(STAGE)
    libraries(tmp_path, "()")
    return tmp_path


def libraries(toy: Path, names: str) -> None:
    forks = toy / "stages/runner/forks.py"
    forks.write_text(re.sub(r"LIBRARIES = \([^)]*\)", f"LIBRARIES = {names}", forks.read_text()))


@pytest.fixture
def warm(toy: Path) -> Iterator[dict[str, str]]:
    with warm_process(toy) as environment:
        yield environment
    assert not servers()
    assert not Path(environment[SOCKET]).exists()


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def servers() -> list[psutil.Process]:
    """The warm processes that live, but for the one that serves all tests, which lies in the project's own folder."""
    alive = [p for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE]
    return [p for p in alive if "stages.runner.forks" in p.cmdline() and p.cwd() != str(ROOT)]


def asker(toy: Path, environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "stages.toy", *arguments]
    return subprocess.Popen(
        command, cwd=toy, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def outcome(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, told = process.communicate(timeout=PATIENCE)
    return process.returncode, told


def times_run(toy: Path) -> int:
    return (toy / "ran").read_text().count("\n") if (toy / "ran").exists() else 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_killed_or_stopped_while_it_imports(toy: Path, number: int) -> None:
    (toy / "endless.py").write_text("import time\nopen('importing', 'w').close()\nwhile True: time.sleep(1)\n")
    libraries(toy, "('endless',)")
    with warm_process(toy) as environment:
        process = asker(toy, environment)
        until((toy / "importing").exists)
        (server,) = servers()
        server.send_signal(number)
        code, told = outcome(process)
        assert (code, times_run(toy)) == (0, 1)
        assert GONE in told
        assert outcome(asker(toy, environment)) == (0, "")  # it is said once


def test_it_imports_before_a_stage_asks(toy: Path, warm: dict[str, str]) -> None:
    (toy / "heavy.py").write_text("open('importing', 'w').close()\n")
    libraries(toy, "('heavy',)")
    assert not servers()
    warm_up(warm)
    until((toy / "importing").exists)
    assert len(servers()) == 1
    assert outcome(asker(toy, warm)) == (0, "")
    assert len(servers()) == 1


def test_it_keeps_its_heap_unless_the_user_says_otherwise(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    libraries(toy, "()")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "77")
    with warm_process(toy) as environment:
        assert outcome(asker(toy, environment)) == (0, "")
        (server,) = servers()
        found = server.environ()
    assert found["MALLOC_TRIM_THRESHOLD_"] == "77"
    assert found["MALLOC_MMAP_THRESHOLD_"] == HEAP["MALLOC_MMAP_THRESHOLD_"]


def test_there_may_be_no_warm_process(tmp_path: Path) -> None:
    warm_up({})
    warm_up({SOCKET: str(tmp_path / "gone")})


def test_killed_between_stages(toy: Path, warm: dict[str, str]) -> None:
    assert outcome(asker(toy, warm)) == (0, "")
    (server,) = servers()
    server.kill()
    until(lambda: not servers())
    code, told = outcome(asker(toy, warm))
    assert (code, times_run(toy)) == (0, 2)
    assert GONE in told


@pytest.mark.parametrize("whole_group", [False, True])
def test_killed_while_a_child_runs(toy: Path, warm: dict[str, str], whole_group: bool) -> None:
    """The child is a process of its own: it goes on; killed too, its stage was killed. In no case it runs twice."""
    process = asker(toy, warm, "--wait")
    until(lambda: times_run(toy))
    (server,) = servers()
    children = server.children()
    os.kill(-server.pid if whole_group else server.pid, signal.SIGKILL)
    until(lambda: not servers())
    (toy / "go").touch()
    code, told = outcome(process)
    assert code == (137 if whole_group else 0)
    assert ("the stage's process was killed" in told) == whole_group
    assert times_run(toy) == 1
    until(lambda: not any(child.is_running() for child in children))


def test_nothing_is_left_of_a_stage_when_all_is_over(toy: Path) -> None:
    with warm_process(toy) as environment:
        process = asker(toy, environment, "--wait")
        until(lambda: times_run(toy))
        children = servers()[0].children()
    assert outcome(process)[0] == 137
    until(lambda: not any(child.is_running() for child in children))


def test_an_interrupt_is_the_stages_business(toy: Path, warm: dict[str, str]) -> None:
    process = asker(toy, warm, "--wait")
    until(lambda: times_run(toy))
    process.send_signal(signal.SIGINT)
    assert outcome(process) == (130, "toy: interrupted; what is finished is kept, run it again to go on\n")


@pytest.mark.parametrize("file", ["runner/execute.py", "toy.py", "runner/costs.py"])
def test_an_interrupt_before_or_after_the_stage_leaves_no_traceback(toy: Path, warm: dict[str, str], file: str) -> None:
    """It arrives while the child imports a file of the project's code, the last of them when the stage has run."""
    code = toy / "stages" / file
    in_the_child = "\nimport signal, sys\nif sys.argv[0] == 'stages.toy': signal.raise_signal(signal.SIGINT)\n"
    if file == "runner/costs.py":
        in_the_child = "\ndef note_cost(*_):" + in_the_child.replace("\n", "\n    ")
    code.write_text(code.read_text() + in_the_child)
    expected = (130, "toy: interrupted; what is finished is kept, run it again to go on\n")
    assert outcome(asker(toy, warm)) == expected
    assert times_run(toy) == (file == "runner/costs.py")


def test_half_a_message_starts_nothing_and_stops_nothing(toy: Path, warm: dict[str, str]) -> None:
    assert outcome(asker(toy, warm)) == (0, "")
    (server,) = servers()
    for sent in (0, 4, 8, 100):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(warm[SOCKET])
            if sent:
                socket.send_fds(connection, [(10**6).to_bytes(8, "big")[:sent]], [0, 1, 2])
            if sent > 8:
                connection.sendall(b"{" * (sent - 8))
    assert outcome(asker(toy, warm)) == (0, "")
    until(lambda: not server.children())  # nobody waits, or spins, for the rest of any
    assert (servers(), times_run(toy)) == ([server], 2)


def test_a_socket_on_which_nobody_listens_goes_and_a_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "warm"
    monkeypatch.setenv(SOCKET, os.path.relpath(path))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))
        listener.listen()
        listener.close()
        assert forward("stages.toy", []) is None
    assert not path.exists()
    path.write_text("no socket")
    assert forward("stages.toy", []) is None
    assert path.exists()


def test_one_that_is_at_hand_serves_other_projects_too(
    toy: Path, warm: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each stage runs the code of its own folder, not that of the folder which the warm process was started in."""
    other = tmp_path / "other"
    shutil.copytree(toy / "stages", other / "stages")
    for name in ("knowtune", "params.yaml", "dvc.yaml"):
        (other / name).symlink_to(ROOT / name)
    execute = other / "stages/runner/execute.py"
    execute.write_text(execute.read_text() + "\n_run = lambda stage, args: open('another', 'w').close()\n")
    monkeypatch.setenv(SOCKET, warm[SOCKET])
    with warm_process(other) as environment:
        assert environment == warm
        assert outcome(asker(other, environment)) == (0, "")
    assert (other / "another").exists()
    assert (times_run(other), len(servers())) == (0, 1)
    assert outcome(asker(toy, warm)) == (0, "")  # the end of the inner block is not its end
    assert times_run(toy) == 1


@pytest.mark.parametrize("name", ["x" * 120, "missing"])
def test_a_temporary_folder_that_takes_no_socket(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = tmp_path / name
    if name != "missing":
        folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)  # what Python has found before
    with warm_process(toy) as environment:
        assert outcome(asker(toy, environment)) == (0, "")
        assert servers()
    assert not folder.exists() or not list(folder.iterdir())


def test_no_folder_at_all(toy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    monkeypatch.setattr("stages.runner.warm.SHORT", ())
    with warm_process(toy) as environment:
        assert environment == {}
    assert "no warm process" in capsys.readouterr().out


def test_a_process_that_cannot_start(toy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warm_process(toy / "missing") as environment:
        code, told = outcome(asker(toy, environment))
    assert (code, times_run(toy)) == (0, 1)
    assert GONE in told
    assert "no warm process: " in capfd.readouterr().err
