"""The wheel for macOS, on a Python that looks like macOS's (as_macos.py says how far that goes)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.wheels.project import PROJECT

pytestmark = pytest.mark.timeout(1000)

AS_MACOS = Path(__file__).with_name("as_macos.py")
# What runs in pods, or is the local stack. Everything else is loaded by a client.
LINUX_ONLY = ("taskctl.agent.", "taskctl.embedded.images.", "taskctl.embedded.node.")
WALK = """
import importlib, pkgutil, sys
sys.path.insert(0, sys.argv[1])
import as_macos
as_macos.pretend()
import taskctl
print(taskctl.__file__)
for module in pkgutil.walk_packages(taskctl.__path__, "taskctl."):
    if module.name != "taskctl.__main__":
        try:
            importlib.import_module(module.name)
        except Exception as error:
            print(module.name, repr(error))
"""
LOCAL = """
import sys
sys.path.insert(0, sys.argv[1])
import as_macos
as_macos.pretend()
import taskctl
with taskctl.local():
    pass
"""


@pytest.fixture(scope="module")
def installed(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the wheel; its requirements are those of this environment."""
    folder = tmp_path_factory.mktemp("site-packages")
    with ZipFile(wheels["macos"]) as archive:
        archive.extractall(folder)
    return folder


def run(installed: Path, cwd: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(installed), "HOME": str(cwd), "COLUMNS": "200"}
    environment.pop("KUBECONFIG", None)
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--version"], f"taskctl {PROJECT['version']}\n"),
        (["--help"], "submit"),
        (["submit", "--help"], "--image"),
        (["ui", "--help"], "--open"),
        (["crds"], "kind: CustomResourceDefinition"),
        (["install", "--image", "taskctl:1"], "kind: Deployment"),
    ],
)  # fmt: skip
def test_client_verbs(installed: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    done = run(installed, tmp_path, AS_MACOS, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert said in done.stdout


def test_every_module_of_a_client_is_loaded(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "-c", WALK, AS_MACOS.parent)
    assert done.returncode == 0, done.stderr
    origin, *failed = done.stdout.splitlines()
    assert Path(origin).is_relative_to(installed)
    assert [line for line in failed if not line.startswith(LINUX_ONLY)] == []


@pytest.mark.parametrize(
    "arguments",
    [["local"], ["local", "--detach"], ["server"], ["node"], ["image", "add", "a=/b"]],
    ids=" ".join,
)
def test_the_local_stack_says_what_it_needs(
    installed: Path, tmp_path: Path, arguments: list[str]
) -> None:
    more = ["--data-dir", str(tmp_path / "data")] if arguments != ["local"] else []
    done = run(installed, tmp_path, AS_MACOS, *arguments, *more)
    assert done.returncode == 2, done.stderr
    assert "needs Linux" in done.stderr
    assert "this is macOS" in done.stderr
    assert "--kubeconfig" in done.stderr
    assert list(tmp_path.iterdir()) == [], "and leaves nothing behind"


def test_so_does_the_library(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "-c", LOCAL, AS_MACOS.parent)
    assert done.returncode == 1
    assert "taskctl.errors.ConfigError: the local stack needs Linux" in done.stderr
