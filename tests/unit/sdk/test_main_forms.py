"""What `__main__` may be when a function is spawned: each form works, or says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
import zipapp
from pathlib import Path
from typing import Any

import pytest

from tests.unit.sdk.bundle import PYTHONS, bundle, find_python
from tests.unit.sdk.fake_agent import FakeAgent

# Each starts an interpreter or two.
pytestmark = pytest.mark.slow

PROGRAM = """
import helper
from taskctl.sdk import task
from taskctl.sdk.sync import spawn

@task
def work(n: int) -> int:
    if n > 1:
        spawn(work, n - 1)  # a child of a child finds it too
    return helper.double(n)

def main():
    spawn(work, 2)

if __name__ == "__main__":
    main()
"""

FORMS: dict[str, list[str]] = {
    "script": ["{app}/main.py"],
    "relative script": ["main.py"],
    "script without suffix": ["{app}/tool"],
    "script with the name of a module": ["{app}/json.py"],
    "link to a script": ["{app}/../link.py"],
    "folder": ["{app}"],
    "archive": ["{app}/../app.pyz"],
    "module": ["-m", "main"],
    "package": ["-m", "package"],
    "module in a package": ["-m", "package.inner"],
    "profiler": ["-m", "cProfile", "-o", os.devnull, "{app}/main.py"],
    "profiler of a module": ["-m", "cProfile", "-o", os.devnull, "-m", "main"],
    "tracer": ["-m", "trace", "--count", "-C", "{app}/../cover", "{app}/main.py"],
    "runpy": ["-c", "import runpy; runpy.run_path('{app}/main.py', run_name='__main__')"],
    "runpy of a module": ["-c", "import runpy; runpy.run_module('main', run_name='__main__')"],
    "runpy under its own name": ["-c", "import runpy; runpy.run_path('main.py')['main']()"],
    "module called by -c": ["-c", "import main; main.main()"],
    "process of multiprocessing": ["{app}/spawner.py"],
}
SPAWNER = """
import multiprocessing
exec(PROGRAM.split("if __name__")[0])
if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=main)
    process.start()
    process.join()
    raise SystemExit(process.exitcode)
"""


@pytest.fixture(scope="module")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle(tmp_path_factory.mktemp("sdk"))


@pytest.fixture
def app(tmp_path: Path, sdk: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(sdk))
    app = tmp_path / "app"
    package = app / "package"
    package.mkdir(parents=True)
    for name in ("main.py", "tool", "json.py", "__main__.py"):
        (app / name).write_text(PROGRAM)
    (app / "json.py").write_text(PROGRAM.replace("import helper", "import sys, helper"))
    (app / "helper.py").write_text("def double(n):\n    return 2 * n\n")
    (app / "spawner.py").write_text(f"PROGRAM = {PROGRAM!r}\n{SPAWNER}")
    (package / "__init__.py").touch()
    for name in ("__main__.py", "inner.py"):
        (package / name).write_text(PROGRAM)
    zipapp.create_archive(app, tmp_path / "app.pyz")
    (tmp_path / "link.py").symlink_to(app / "main.py")
    return app


def start(
    arguments: list[str], cwd: Path, python: str = sys.executable
) -> subprocess.CompletedProcess[str]:
    command = [python, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def check(agent: FakeAgent, app: Path, form: str, python: str) -> None:
    arguments = [part.format(app=app) for part in FORMS[form]]
    done = start(arguments, app, python)
    assert done.returncode == 0, done.stderr
    for number, value in enumerate((2, 1)):
        spec: dict[str, Any] = agent.spawned()[number]
        agent.input = {"value": spec["value"]}
        child = start(spec["overrides"]["command"][1:], Path("/"), python)
        assert child.returncode == 0, (spec, child.stderr)
        assert agent.asked("output")[number]["value"] == 2 * value


@pytest.mark.parametrize("form", FORMS)
def test_function_of_main(agent: FakeAgent, app: Path, form: str) -> None:
    check(agent, app, form, sys.executable)


@pytest.mark.parametrize("name", PYTHONS)
@pytest.mark.parametrize("form", ["archive", "profiler"])
def test_function_of_main_on_other_interpreters(
    agent: FakeAgent, app: Path, form: str, name: str
) -> None:
    check(agent, app, form, find_python(name))


@pytest.mark.parametrize(
    "arguments", [["-c", PROGRAM], ["-c", f"exec({PROGRAM!r}, {{'__name__': '__main__'}})"]]
)
def test_function_typed_in_says_what_to_do(
    agent: FakeAgent, app: Path, arguments: list[str]
) -> None:
    done = start(arguments, app)
    assert done.returncode == 1
    assert "put it into a file" in done.stderr.splitlines()[-1]


def test_script_given_by_its_path_finds_what_is_beside_it(agent: FakeAgent, app: Path) -> None:
    agent.input = {"value": {"n": 1}}
    done = start(["-m", "taskctl.sdk.run", f"{app}/main.py:work"], Path("/"))
    assert done.returncode == 0, done.stderr
    assert agent.asked("output")[0]["value"] == 2
