"""Runs the tests that need no cluster: everything side by side, or what the arguments choose.

    ./scripts/test                      everything, in two processes of pytest
    ./scripts/test quick                something of each package, less the tests marked slow
    ./scripts/test quick --coverage     the same, and which lines of some packages it has not run
    ./scripts/test tests/unit -k queue  what pytest makes of these arguments, in one process

The tests with local stacks mostly wait for processes, the others mostly compute: side by side they
take about as long as the longer half. Only the options in ``ANY_HALF`` are given to both halves;
with any other argument one process of pytest does it all, and ``TASKCTL_TEST_PROCESSES=1`` asks for
that as well. Each half has its own cache, and what failed in either is what ``--last-failed`` runs.

Coverage is measured on request only, as it doubles what the tests compute. ``tool.coverage`` of
pyproject.toml names the packages and the floor; under the floor the command fails.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".pytest_cache"
LAST_FAILED = Path("v/cache/lastfailed")
# Tests that start local stacks, browsers and programs, and wait for them.
STACKS = ("tests/embedded", "tests/attacks", "tests/browser")
NEEDS_CLUSTER = "--ignore=tests/cluster"
# What `quick` runs, less the tests marked slow: something of each package, and nothing that starts
# a local stack. tests/test_run_tests.py looks after the list.
QUICK = (
    "tests/test_coverage_page.py",
    "tests/test_names.py",
    "tests/test_prose.py",
    "tests/unit/agent/test_agent_restarts.py",
    "tests/unit/agent/test_children.py",
    "tests/unit/api",
    "tests/unit/cli/test_durations.py",
    "tests/unit/cli/test_hints.py",
    "tests/unit/controllers/test_access.py",
    "tests/unit/embedded_images/test_process.py",
    "tests/unit/embedded_images/test_store.py",
    "tests/unit/embedded_node/test_claims.py",
    "tests/unit/embedded_node/test_decide.py",
    "tests/unit/embedded_node/test_status.py",
    "tests/unit/embedded/server/apply/test_apply.py",
    "tests/unit/embedded/server/cel/test_cel.py",
    "tests/unit/embedded/server/definitions/test_crds.py",
    "tests/unit/embedded/server/storage/test_selectors.py",
    "tests/unit/embedded/server/storage/test_store.py",
    "tests/unit/embedded/server/requests/test_options.py",
    "tests/unit/history",
    "tests/unit/init/test_output.py",
    "tests/unit/install/test_manifests.py",
    "tests/unit/kube",
    "tests/unit/metrics",
    "tests/unit/outside",
    "tests/unit/placement",
    "tests/unit/policy",
    "tests/unit/sdk/test_context.py",
    "tests/unit/sdk/test_docs.py",
    "tests/unit/sdk/test_oldest_python.py",
    "tests/unit/test_wire.py",
    "tests/unit/ui",
)
# Options that mean the same for each half, whatever is in it.
ANY_HALF = re.compile(
    r"-[qvl]+|-r\w+|--(tb|timeout|durations|durations-min|randomly-seed|hypothesis-\w+|color)=.*"
)
# Asks for a report of coverage, with `quick`.
COVERAGE = "--coverage"
# pytest's exit codes.
PASSED, TESTS_FAILED, NOTHING_COLLECTED = 0, 1, 5
# How long a half may take to stop its stacks after it was interrupted.
STOP_S = 60.0
# How long to read on after pytest has ended: a process that a test left behind holds the pipe open.
LAST_LINES_S = 10.0
TICK_S = 0.2


@dataclass
class Half:
    """One process of pytest, and what it prints.

    Attributes:
        name: what the output calls it.
        tests: the arguments that choose its tests.
        niceness: added to that of this process, so that who waits for processes is served first.
        live: whether its output is shown as it comes; otherwise :meth:`report` shows it.
    """

    name: str
    tests: tuple[str, ...]
    niceness: int = 0
    live: bool = False
    output: list[str] = field(default_factory=list, init=False)
    process: subprocess.Popen[str] = field(init=False)
    reader: Thread = field(init=False)

    @property
    def cache(self) -> Path:
        """The directory of pytest's cache plugin."""
        return CACHE / "halves" / self.name

    def start(self, arguments: Sequence[str]) -> None:
        """Start it, with arguments that are given to both halves."""
        (self.cache / LAST_FAILED).unlink(missing_ok=True)
        command = ["nice", "-n", str(self.niceness), sys.executable, "-m", "pytest"]
        command += ["-o", f"cache_dir={self.cache}", *self.tests, *arguments]
        if sys.stdout.isatty():
            command.append("--color=yes")
        # In a session of its own: the terminal's Ctrl-C comes by way of this process, once.
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        self.reader = Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            if self.live:
                print(line, end="", flush=True)

    def interrupt(self) -> None:
        """Ask it to end, as Ctrl-C does; it stops its stacks first."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it at once."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)

    def report(self) -> None:
        """Print what it has printed, unless that was shown as it came."""
        if not self.live:
            print(f"\n=== {self.name}: what it printed", flush=True)
            sys.stdout.writelines(self.output)
            sys.stdout.flush()

    def failed(self) -> dict[str, bool]:
        """Return the tests that failed, as pytest's cache has them."""
        try:
            found: dict[str, bool] = json.loads((self.cache / LAST_FAILED).read_text())
        except FileNotFoundError:
            return {}
        return found


def everything() -> list[Half]:
    """Return the two halves; a new folder of tests is in the first by itself."""
    others = (NEEDS_CLUSTER, *(f"--ignore={folder}" for folder in STACKS))
    return [Half("units", others, niceness=5), Half("stacks", STACKS, live=True)]


def side_by_side(halves: Sequence[Half], arguments: Sequence[str]) -> int:
    """Run halves at the same time; return the exit code of both together."""
    interrupts: list[int] = []

    def note(number: int, frame: object) -> None:
        interrupts.append(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, note)
    for half in halves:
        half.start(arguments)
    _wait(halves, interrupts)
    for half in halves:
        half.report()
    remember({test: True for half in halves for test in half.failed()})
    statuses = {half.name: half.process.returncode for half in halves}
    print("\n=== " + ", ".join(f"{name}: exit code {code}" for name, code in statuses.items()))
    return 128 + interrupts[0] if interrupts else together(list(statuses.values()))


def _wait(halves: Sequence[Half], interrupts: Sequence[int]) -> None:
    """Wait until all have ended; pass interrupts on, and kill who does not end then."""
    began_s = time.monotonic()
    interrupted_s: float | None = None
    running = list(halves)
    while running:
        time.sleep(TICK_S)
        if interrupts and interrupted_s is None:
            interrupted_s = time.monotonic()
            for half in running:
                half.interrupt()
        if len(interrupts) > 1 or (interrupted_s and time.monotonic() - interrupted_s > STOP_S):
            for half in running:
                half.kill()
        for half in [half for half in running if half.process.poll() is not None]:
            running.remove(half)
            half.reader.join(LAST_LINES_S)
            minutes = (time.monotonic() - began_s) / 60
            code = half.process.returncode
            print(f"=== {half.name}: exit code {code} after {minutes:.1f} min", flush=True)


def together(statuses: Sequence[int]) -> int:
    """Return the exit code of several runs: the worst, where having no tests is none if one had."""
    told = [status for status in statuses if status != NOTHING_COLLECTED]
    if not told:
        return NOTHING_COLLECTED
    return next((status for status in told if status not in (PASSED, TESTS_FAILED)), max(told))


def remember(failed: dict[str, bool]) -> None:
    """Make these tests the ones that ``--last-failed`` chooses."""
    path = CACHE / LAST_FAILED
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(failed, indent=2))


def with_coverage(arguments: Sequence[str]) -> int:
    """Run pytest, print what of the code has run, and return the exit code of what failed first."""
    coverage = [sys.executable, "-m", "coverage"]
    (ROOT / ".coverage").mkdir(exist_ok=True)
    for step in (["run", "-m", "pytest", *arguments], ["report"]):
        status = subprocess.run([*coverage, *step], cwd=ROOT, check=False).returncode
        if status != PASSED:
            return status
    return PASSED


def main(arguments: list[str]) -> int:
    """Run the tests that the arguments ask for; return the exit code."""
    if arguments[:1] == ["quick"]:
        chosen = [argument for argument in arguments[1:] if argument != COVERAGE]
        quick = ["-q", "-m", "not slow", "--durations=10", *QUICK, *chosen]
        if COVERAGE in arguments:
            return with_coverage(quick)
        arguments = quick
    elif os.environ.get("TASKCTL_TEST_PROCESSES") != "1" and all(
        ANY_HALF.fullmatch(argument) for argument in arguments
    ):
        return side_by_side(everything(), arguments)
    command = [sys.executable, "-m", "pytest", NEEDS_CLUSTER, *arguments]
    os.chdir(ROOT)
    os.execv(sys.executable, command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
