from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.ask import find_model, read_question
from knowtune.common.errors import UserError

ROOT = Path(__file__).parents[3]
QUESTIONS = ["costs $5 $(PWD) $$", "`ls` \"quoted\" 'too' \\n", "-5 + 3 =", "two\nlines\n", "Чили? 智利"]


class TestReadQuestion:
    @pytest.mark.parametrize("question", [*QUESTIONS, ""])
    def test_the_command_lines_stays_as_it_is(self, question: str) -> None:
        assert read_question(question, None, raw=False) == question

    @pytest.mark.parametrize(
        ("written", "read", "raw"),
        [
            ("Who?\n", "Who?", "Who?\n"),
            ("R:\n\n", "R:\n", "R:\n\n"),
            ("\ufeffa\r\nb", "a\nb", "a\nb"),
            (" a ", " a ", " a "),
        ],
    )
    def test_a_files_last_line_break_ends_its_line(
        self, written: str, read: str, raw: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "q.txt").write_bytes(written.encode())
        for wanted, as_it_is in ((read, False), (raw, True)):
            assert read_question(None, tmp_path / "q.txt", raw=as_it_is) == wanted
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(written.encode())))
            assert read_question(None, None, raw=as_it_is) == wanted

    def test_what_cannot_be_read(self, tmp_path: Path) -> None:
        (tmp_path / "q.txt").write_bytes(b"\xff")
        with pytest.raises(UserError, match="not UTF-8"):
            read_question(None, tmp_path / "q.txt", raw=False)
        with pytest.raises(UserError, match=r"^ASK: .*none\.txt: No such file or directory"):
            read_question(None, tmp_path / "none.txt", raw=False)
        with pytest.raises(UserError, match=r"^Q and ASK: got both"):
            read_question("Who?", tmp_path / "q.txt", raw=False)


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("place", ["command line", "environment"])
def test_make_hands_a_question_over_as_it_was_typed(question: str, place: str, tmp_path: Path) -> None:
    """The command that make runs shows its arguments instead of asking."""
    shown = tmp_path / "shown"
    shown.write_text(f"#!{sys.executable}\nimport sys\nprint(ascii(sys.argv[1:]))\n")
    shown.chmod(0o755)
    given = [f"Q={question}"] if place == "command line" else []
    environment = {**os.environ, **({"Q": question} if not given else {})}
    command = ["make", "--no-print-directory", "ask", "RUN=lora", "RAW=1", f"CLI={shown}", "READY=", *given]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ascii(["--params", "params.yaml", "--run", "lora", "--raw", "--", question]).replace(
        "['--params'", "['ask', '--params'"
    )


def test_seeds_are_numbers_lowest_first(tmp_path: Path) -> None:
    for seed in (10, 9, 100):
        (tmp_path / f"lora/seed-{seed}").mkdir(parents=True)
    folders = {"lora": str(tmp_path / "lora"), "soup": str(tmp_path / "soup")}
    assert find_model(folders, "lora", None).name == "seed-9"
    assert find_model(folders, "lora", 10).name == "seed-10"
    with pytest.raises(UserError, match="seed: got 1; allowed: 9, 10, 100"):
        find_model(folders, "lora", 1)
    with pytest.raises(UserError, match="soup: no model yet; `make run` makes it"):
        find_model(folders, "soup", None)
    with pytest.raises(UserError, match="no run or mixture is called 'lira'; known: lora, soup; did you mean 'lora'"):
        find_model(folders, "lira", None)
