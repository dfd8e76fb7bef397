"""An installation without extras: the SDK, the client, and the verbs that talk to a cluster."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from scripts.gen_sbom import pinned
from taskctl.cli.parts import PARTS

# Each program loads a good part of taskctl.
pytestmark = pytest.mark.timeout(240)

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# What may ask for more: everything else of taskctl is there after `pip install taskctl`.
NEEDS_MORE = (
    "taskctl.agent.exposition",
    "taskctl.controllers",
    "taskctl.embedded.server",
    "taskctl.metrics.registry",
    "taskctl.testing.cluster",
    "taskctl.testing.plugin",
)
MAINS = {
    "controller": "import taskctl.controllers.main",
    "local": "import taskctl.controllers.main, taskctl.embedded.server.main, "
    "taskctl.embedded.node.main, taskctl.agent.main",
    "otel": "import taskctl.controllers.otlp",
}
WALK = """
import importlib, pkgutil, taskctl
for module in pkgutil.walk_packages(taskctl.__path__, "taskctl."):
    if module.name != "taskctl.__main__":
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            print(module.name, error.name)
"""


def test_what_is_pinned_installs_on_the_oldest_python() -> None:
    """Debian 12 has Python 3.11.2, where a version that asks for 3.11.5 cannot be installed."""
    oldest = PROJECT["requires-python"].removeprefix(">=") + ".0"
    asked = {
        f"{name}=={version}": importlib.metadata.metadata(name)["Requires-Python"] or ""
        for name, version in pinned((ROOT / "scripts/constraints.txt").read_text()).items()
    }
    assert [pin for pin, range_ in asked.items() if oldest not in SpecifierSet(range_)] == []


def closure(requirements: list[str]) -> set[str]:
    """Return the distributions that pip would install, by their normal names."""
    found: set[str] = set()
    todo = [Requirement(line) for line in requirements]
    while todo:
        wanted = todo.pop()
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if name in found or not (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        todo += map(Requirement, importlib.metadata.requires(name) or ())
    return found


def install(folder: Path, requirements: list[str]) -> None:
    """Make a directory with what pip would install there: links to what is installed here."""
    for name in closure(requirements):
        files = importlib.metadata.files(name) or ()
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            link = folder / top
            if not link.exists():
                link.symlink_to(str(importlib.metadata.distribution(name).locate_file(top)))
    (folder / "taskctl").symlink_to(ROOT / "taskctl")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with taskctl and its base requirements."""
    folder = tmp_path_factory.mktemp("site-packages")
    install(folder, PROJECT["dependencies"])
    return folder


def run(folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path.insert(0, {str(folder)!r})\n{program}"
    command = [sys.executable, "-I", "-S", "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_sdk_client_and_command_line_are_there(small: Path) -> None:
    done = run(
        small,
        "import taskctl, taskctl.sdk, taskctl.sdk.sync\n"
        "taskctl.Client, taskctl.SyncClient, taskctl.Executor, taskctl.operations\n"
        "taskctl.local, taskctl.run_here\n"
        "from taskctl.__main__ import main\nsys.argv[0] = 'taskctl'; main()",
        "--version",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"taskctl {PROJECT['version']}\n"


def test_only_server_and_controller_ask_for_more(small: Path) -> None:
    done = run(small, WALK)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [module for module, _ in lines if not module.startswith(NEEDS_MORE)] == []
    absent = {name.partition(".")[0] for _, name in lines}
    assert absent == {*PARTS["local"], "opentelemetry", "pytest"}, (
        "each of them is needed, and no other"
    )


@pytest.mark.parametrize("verb", ["local", "server", "node", "controller"])
def test_a_missing_part_is_named_with_the_command_that_brings_it(small: Path, verb: str) -> None:
    program = "from taskctl.__main__ import main\nsys.argv[0] = 'taskctl'; main()"
    options = [] if verb == "controller" else ["--data-dir", str(small / "data")]
    done = run(small, program, verb, *options)
    part = "controller" if verb == "controller" else "local"
    assert done.returncode == 2, done.stderr
    what = "the controller" if verb == "controller" else "the local stack"
    assert done.stderr == (
        f"taskctl: {what} needs packages that a plain `pip install taskctl` leaves out "
        f"({', '.join(PARTS[part])}); run: pip install 'taskctl[{part}]'\n"
    )
    assert not (small / "data").exists()


def test_the_cluster_of_tests_names_what_it_needs(small: Path) -> None:
    done = run(small, "from taskctl.testing import FakeCluster")
    assert "FakeCluster needs the local stack: pip install 'taskctl[local]'" in done.stderr


@pytest.mark.parametrize("part", PARTS)
def test_an_extra_brings_what_its_part_needs(part: str, tmp_path: Path) -> None:
    install(tmp_path, PROJECT["dependencies"] + PROJECT["optional-dependencies"][part])
    program = f"from taskctl.cli.parts import require; require({part!r}); {MAINS[part]}"
    done = run(tmp_path, program)
    assert done.returncode == 0, done.stderr


def test_every_extra_that_a_sentence_names_exists() -> None:
    assert PARTS.keys() == MAINS.keys()
    assert PARTS.keys() <= PROJECT["optional-dependencies"].keys()
