"""What can be imported, and what that costs."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import taskctl

ROOT = Path(taskctl.__file__).parent
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages([str(ROOT)], prefix="taskctl.")
    if not module.name.endswith("__main__")
)
# Everything somebody outside is meant to import. A change here is a change of the interface.
PUBLIC = {
    "taskctl": {"Client", "Executor", "SyncClient", "local", "run_here"},
    "taskctl.sdk": {"task", "spawn", "spawn_many", "output", "progress", "info", "current"},
    "taskctl.sdk.sync": {"spawn", "spawn_many", "output", "progress", "info"},
    "taskctl.testing": {"FakeCluster"},
    "taskctl.testing.builders": {"task", "taskobject", "taskcluster"},
    "taskctl.testing.stack": {"LocalStack", "Component"},
    "taskctl.errors": {"TaskctlError", "ApiError", "ConfigError"},
}


def _run(code: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_module_can_be_imported_first_and_says_nothing() -> None:
    """Each on its own would take minutes; in reverse order a cycle shows all the same."""
    for order in (MODULES, MODULES[::-1]):
        code = f"import importlib\nfor name in {order!r}: importlib.import_module(name)"
        assert _run(code) == ""


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_importing_the_package_loads_nothing_else() -> None:
    code = (
        "import sys; before = set(sys.modules); import taskctl; "
        "print(sorted(set(sys.modules) - before))"
    )
    assert _run(code) == "['taskctl']\n"


@pytest.mark.parametrize("name", MODULES)
def test_all_is_true(name: str) -> None:
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    assert len(exported) == len(set(exported))
    for item in exported:
        assert hasattr(module, item), item


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_there_and_documented(name: str) -> None:
    module = importlib.import_module(name)
    for item in PUBLIC[name]:
        assert getattr(module, item).__doc__, item
    assert PUBLIC[name] <= set(getattr(module, "__all__", PUBLIC[name]))


def test_the_page_of_what_one_can_rely_on_names_the_public_modules() -> None:
    page = (ROOT.parent / "docs" / "public-surface.md").read_text()
    assert [name for name in PUBLIC if f"`{name}`" not in page] == []
