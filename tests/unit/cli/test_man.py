"""The manual page and the completion files, which scripts/gen_man.py writes from the commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from scripts.gen_man import FILES, FOLDER, paragraphs, render, roff
from taskctl.cli.app import build_app

ROOT = Path(__file__).resolve().parents[3]
PAGE = f"{FOLDER}/man/man1/taskctl.1"


def test_files_are_those_of_the_commands() -> None:
    for name, text in render().items():
        assert (ROOT / name).read_text() == text, f"run scripts/gen_man.py: {name}"


def test_every_verb_that_is_not_hidden_has_its_part() -> None:
    page = render()[PAGE]
    root: Any = typer.main.get_command(build_app())
    shown = {name for name, command in root.commands.items() if not command.hidden}
    assert {"submit", "tree", "local", "controller"} <= shown
    for verb in shown:
        assert f"\n.SS taskctl {roff(verb)} [OPTIONS]" in page, verb
    assert page.isascii(), "shown alike whatever the locale"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a-b", "a\\-b"),
        (".PP", "\\&.PP"),
        ("'PP", "\\(aqPP"),
        ("\\fB", "\\efB"),
        ("TASK…", "TASK\\[u2026]"),
        ("`~^", "\\(ga\\(ti\\(ha"),
    ],
)
def test_no_text_is_taken_for_a_request(text: str, shown: str) -> None:
    assert roff(text) == shown


def test_paragraphs_stay_apart() -> None:
    assert list(paragraphs("one\ntwo\n\n\b\nthree")) == ["one two", ".PP", "three"]


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_groff_reads_the_page_without_a_warning() -> None:
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", str(ROOT / PAGE)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "API server not reachable." in done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_by_the_file(tmp_path: Path) -> None:
    program = tmp_path / "taskctl"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from taskctl.__main__ import main\nmain()\n"
    )
    program.chmod(0o755)
    script = (
        'source "$1"; COMP_WORDS=(taskctl subm); COMP_CWORD=1\n'
        "_taskctl_completion taskctl; printf '%s\\n' \"${COMPREPLY[@]}\"; complete -p taskctl"
    )
    done = subprocess.run(
        ["bash", "-c", script, "bash", str(ROOT / FILES["bash"])],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == [
        "submit",
        "complete -o default -F _taskctl_completion taskctl",
    ], done.stderr
