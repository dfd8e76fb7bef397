"""./scripts/test: which arguments make two halves, and what two halves make together."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from scripts.run_tests import ANY_HALF, QUICK, STACKS, everything, main, together

# Some cases start two processes of pytest.
pytestmark = pytest.mark.timeout(180)

ROOT = Path(__file__).resolve().parents[1]
RUN = """
import sys
from pathlib import Path
from scripts import run_tests
run_tests.ROOT = root = Path(sys.argv[1])
run_tests.CACHE = root / ".pytest_cache"
first = run_tests.Half("first", ("first",), niceness=5)
second = run_tests.Half("second", ("second",), live=True)
sys.exit(run_tests.side_by_side([first, second], sys.argv[2:]))
"""
REPORT = ["-m", "coverage", "report"]
PASSES = "def test_passes(): pass\n"
FAILS = "def test_fails(): assert False\n"
WAITS = """
    import time
    from pathlib import Path

    def test_waits(request):
        here = Path(__file__).parent
        try:
            (here / "began").touch()
            time.sleep(120)
        finally:
            (here / "stopped").touch()
"""


def project(folder: Path, first: str, second: str) -> Path:
    for name, content in (("first", first), ("second", second)):
        (folder / name).mkdir()
        (folder / name / f"test_{name}.py").write_text(textwrap.dedent(content))
    (folder / "pytest.ini").write_text("[pytest]\n")
    return folder


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder), *arguments], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def lastfailed(folder: Path) -> list[str]:
    return sorted(json.loads((folder / ".pytest_cache/v/cache/lastfailed").read_text()))


@pytest.mark.slow
def test_both_outputs_and_both_exit_codes_count(tmp_path: Path) -> None:
    process = start(project(tmp_path, FAILS, PASSES), "-rf")
    output, _ = process.communicate()
    assert process.returncode == 1, output
    assert "FAILED first/test_first.py::test_fails" in output
    assert output.count("1 passed") == 1
    assert lastfailed(tmp_path) == ["first/test_first.py::test_fails"]
    again = [sys.executable, "-m", "pytest", "--last-failed", "-q"]
    done = subprocess.run(again, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 failed" in done.stdout
    assert "passed" not in done.stdout


@pytest.mark.slow
def test_what_failed_before_is_forgotten(tmp_path: Path) -> None:
    project(tmp_path, FAILS, FAILS)
    process = start(tmp_path)
    process.communicate()
    assert len(lastfailed(tmp_path)) == 2
    for name in ("first", "second"):
        (tmp_path / name / f"test_{name}.py").write_text(PASSES)
    process = start(tmp_path)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert lastfailed(tmp_path) == []


@pytest.mark.slow
def test_an_interrupt_ends_both_and_lets_them_clear_up(tmp_path: Path) -> None:
    process = start(project(tmp_path, WAITS, WAITS))
    folders = [tmp_path / "first", tmp_path / "second"]
    deadline = time.monotonic() + 120
    while not all((folder / "began").exists() for folder in folders):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, output
    assert all((folder / "stopped").exists() for folder in folders), output
    assert output.count("KeyboardInterrupt") >= 2


@pytest.mark.parametrize(
    ("statuses", "status"),
    [([0, 0], 0), ([0, 1], 1), ([1, 0], 1), ([0, 5], 0), ([5, 1], 1), ([5, 5], 5), ([1, 2], 2),
     ([0, -9], -9), ([4, 0], 4)],
)  # fmt: skip
def test_exit_code_of_both(statuses: list[int], status: int) -> None:
    assert together(statuses) == status


@pytest.mark.parametrize(
    ("argument", "both"),
    [("--durations=40", True), ("--timeout=180", True), ("--randomly-seed=1", True), ("-q", True),
     ("-rA", True), ("--tb=short", True), ("-x", False), ("-k", False), ("--last-failed", False),
     ("tests/unit", False), ("--pdb", False), ("-s", False), ("-m", False)],
)  # fmt: skip
def test_an_argument_that_chooses_tests_makes_one_process(argument: str, both: bool) -> None:
    assert bool(ANY_HALF.fullmatch(argument)) is both


def test_every_folder_of_tests_is_in_one_half() -> None:
    units, stacks = everything()
    assert set(units.tests) == {"--ignore=tests/cluster", *(f"--ignore={name}" for name in STACKS)}
    assert stacks.tests == STACKS
    assert all((ROOT / folder).is_dir() for folder in STACKS)


def test_quick_has_something_of_each_package() -> None:
    files = {
        path
        for name in QUICK
        for path in ([ROOT / name] if name.endswith(".py") else (ROOT / name).glob("test_*.py"))
    }
    assert [str(path) for path in files if not path.is_file()] == []
    helpers = {path.parent / name for path in files for name in ("conftest.py", "fakes.py")}
    imported = {
        found
        for path in files | {path for path in helpers if path.exists()}
        for found in re.findall(r"^(?:from|import) (taskctl(?:\.\w+)*)", path.read_text(), re.M)
    }
    packages = {
        ".".join(("taskctl", *path.parent.relative_to(ROOT / "taskctl").parts))
        for path in (ROOT / "taskctl").rglob("__init__.py")
    }
    tops = {name for name in packages if name.count(".") == 1} - {"taskctl.embedded"}
    wanted = tops | {name for name in packages if re.fullmatch(r"taskctl\.embedded\.\w+", name)}
    # The programs in C are run as programs.
    wanted -= {"taskctl.init"}
    assert any("unit/init" in str(path) for path in files)
    missing = [
        name for name in wanted if not any(f"{one}.".startswith(f"{name}.") for one in imported)
    ]
    assert missing == []


def test_quick_starts_no_local_stack() -> None:
    assert [name for name in QUICK if name.startswith((*STACKS, "tests/conformance"))] == []


def test_coverage_is_reported_after_tests_that_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    statuses = iter([0, 2, 1])

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(command[1:])
        return subprocess.CompletedProcess(command, next(statuses))

    monkeypatch.setattr("scripts.run_tests.subprocess.run", run)
    assert main(["quick", "--coverage", "-x"]) == 2, "below the floor"
    assert [command[:3] for command in ran] == [
        ["-m", "coverage", "run"],
        ["-m", "coverage", "report"],
    ]
    assert {*QUICK, "-x"} < set(ran[0])
    assert "--coverage" not in ran[0]
    assert main(["quick", "--coverage"]) == 1, "tests failed, so there is no report"
    assert len(ran) == 3
