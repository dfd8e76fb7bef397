"""The binaries under test: as released, and under the address and undefined sanitizers."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.init.fake_agent import Agent, Init
from tests.unit.init.fake_shell import Shell

ROOT = Path(__file__).resolve().parents[3]
SOURCE = ROOT / "taskctl" / "init" / "taskctl-init"


def load_build_hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_hook", ROOT / "scripts" / "build_hook.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def build_hook() -> ModuleType:
    return load_build_hook()


def build_released() -> Path:
    hook = load_build_hook()
    binaries = SOURCE.parent / "bin"
    binaries.mkdir(exist_ok=True)
    return Path(hook.compile_one(SOURCE, binaries / SOURCE.name, hook.machine()))


def build_sanitized(units: Sequence[Path], binary: Path) -> Path:
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("no gcc: the suite does not run under sanitizers here")
    flags = ["-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fno-sanitize-recover=all"]
    flags.append(f'-DTASKCTL_VERSION="{load_build_hook().version()}"')
    flags += ["-I", str(SOURCE), "-fsanitize=address,undefined", "-o", str(binary)]
    command = [gcc, *flags, *map(str, units)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 and "cannot find -l" in done.stderr:
        pytest.skip("no libasan: the suite does not run under sanitizers here")
    assert done.returncode == 0, done.stderr
    return binary


@pytest.fixture(
    scope="session",
    params=["released", pytest.param("sanitized", marks=pytest.mark.slow)],
)
def binary(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program in its own folder `bin`, with a folder `python` beside it."""
    folder = tmp_path_factory.mktemp(str(request.param)) / "bin"
    folder.mkdir()
    (folder.parent / "python").mkdir()
    if request.param == "sanitized":
        return build_sanitized([*SOURCE.glob("*.c")], folder / "taskctl-init")
    return Path(shutil.copy(build_released(), folder))


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    with Agent(tmp_path / "agent.sock") as agent:
        yield agent


@pytest.fixture
def init(binary: Path, agent: Agent, tmp_path: Path) -> Iterator[Init]:
    """taskctl-init, started, with nobody having answered it yet."""
    process = Init(binary, agent, tmp_path)
    yield process
    process.close()
    assert "Sanitizer" not in process.err, process.err
    assert "runtime error" not in process.err, process.err


@pytest.fixture
def start_init(binary: Path, agent: Agent, tmp_path: Path) -> Iterator[Callable[..., Init]]:
    """Starts taskctl-init with more environment variables."""
    started: list[Init] = []

    def start(**env: str) -> Init:
        started.append(Init(binary, agent, tmp_path, **env))
        return started[-1]

    yield start
    for process in started:
        process.close()
        assert "Sanitizer" not in process.err, process.err


@pytest.fixture
def shell(binary: Path, agent: Agent, tmp_path: Path) -> Shell:
    keys = tmp_path / "keys"
    keys.touch()
    return Shell(binary, agent, keys)
