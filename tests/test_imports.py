"""What importing costs: the SDK is loaded in every task."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgpack
import pytest

ROOT = Path(__file__).resolve().parents[1]

SDK = {
    "taskctl",
    "taskctl.errors",
    "taskctl.sdk",
    "taskctl.sdk._api",
    "taskctl.sdk._cancel",
    "taskctl.sdk._child",
    "taskctl.sdk._context",
    "taskctl.sdk._env",
    "taskctl.sdk._functions",
    "taskctl.sdk._options",
    "taskctl.sdk._places",
    "taskctl.sdk._sources",
    "taskctl.sdk._specs",
    "taskctl.sdk._stored",
    "taskctl.sdk._types",
    "taskctl.sdk.errors",
}
# Each costs milliseconds, and most tasks need none of them before their own code runs.
NEVER_AT_IMPORT = (
    *("asyncio", "dataclasses", "enum", "inspect", "json", "logging", "msgpack", "pathlib"),
    *("re", "signal", "socket", "threading", "typing"),
)
# Nothing that the SDK does may load these.
NEVER = (
    *("aiohttp", "kubernetes_asyncio", "orjson", "pydantic", "uvloop", "yaml"),
    *("taskctl.api", "taskctl.kube", "taskctl.constants", "taskctl.policy"),
)


def loaded_by(code: str) -> set[str]:
    """Return the modules that a program loads beyond those of a bare interpreter."""
    program = (
        f"import os, sys; bare = set(sys.modules); sys.path.insert(0, {str(ROOT)!r})\n"
        f"sys.path.append({str(Path(msgpack.__file__).parents[1])!r})\n"
        f"{code}\nprint(*(set(sys.modules) - bare))"
    )
    command = [sys.executable, "-I", "-S", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_sdk_loads_only_itself() -> None:
    assert loaded_by("import taskctl.sdk") == SDK | {"__future__"}
    assert not SDK & set(NEVER_AT_IMPORT)


def test_importing_the_sync_functions_adds_nothing() -> None:
    assert loaded_by("import taskctl.sdk.sync") == SDK | {"__future__", "taskctl.sdk.sync"}


@pytest.mark.parametrize(
    "module", ["_awaiting", "_blocking", "_functions", "_keys", "_stored", "_values", "run"]
)
def test_nothing_heavy_is_ever_loaded(module: str) -> None:
    loaded = loaded_by(f"import taskctl.sdk.{module}")
    assert not loaded & set(NEVER)
    assert {name for name in loaded if name.startswith("taskctl.")} <= SDK | {
        *(
            "taskctl.wire",
            "taskctl.sdk._awaiting",
            "taskctl.sdk._blocking",
            "taskctl.sdk._exchange",
        ),
        *("taskctl.sdk._keys", "taskctl.sdk._prepared", "taskctl.sdk._values"),
        "taskctl.sdk.run",
        *(f"taskctl.sdk._{part}" for part in ("decode", "fit", "hints", "path", "same")),
        *("taskctl.sdk._scalars", "taskctl.sdk._words"),
    }


def test_code_without_async_does_not_pay_for_it() -> None:
    assert "asyncio" not in loaded_by("import taskctl.sdk._blocking, taskctl.sdk.run")


def test_wire_is_light() -> None:
    loaded = loaded_by("import taskctl.wire")
    assert not loaded & {"typing", "dataclasses", "enum", "inspect", "asyncio"}
