"""What type checkers say of users' programs. A line that ends in ``# wrong`` must be refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# Type checkers take seconds to start.
pytestmark = pytest.mark.slow

FUNCTIONS = """\
from typing import Any
from taskctl import Client, Executor, SyncClient, run_here
from taskctl.sdk import Child, ChildError, as_completed, child, gather, spawn, spawn_many
from taskctl.sdk import task, wait
from taskctl.outside.info import TaskInfo
from taskctl.sdk import sync

@task
async def slow(number: int, text: str = "") -> float:
    return number + len(text)

@task
def quick(number: int) -> str:
    return str(number)

@task(retry=2)
def add(left: int, right: int) -> int:
    return left + right

@task
def total(parts: list[str], title: str = "") -> bytes:
    return title.join(parts).encode()

def plain(number: int) -> bytes:
    return bytes(number)
"""

PROGRAMS = {
    "client": """
async def right(c: Client, s: SyncClient, e: Executor) -> None:
    a: float = await (await c.submit(slow, 1)).result()
    b: float = await (await c.submit(slow, 1, "x", image="i"))
    d: str = s.submit(quick, 1, debug=True).result()
    f: bytes = s.submit(plain, 1, retry=3).result()
    g: float = await (await c.submit(slow.call(number=1)))
    h: list[bytes] = await c.gather(await c.map(plain, [1]))
    i: str = e.submit(quick, 1).result()
    k: list[TaskInfo] = await (await c.get("n")).retry(failed=True)
    l: list[TaskInfo] = s.submit(quick, 1).retry() + s.retry("n") + await c.retry("n")
    j: str = run_here(quick, 1)
    await c.submit(["ls"], env={"A": "b"})

async def wrong(c: Client, s: SyncClient) -> None:
    await c.submit(slow, "1")  # wrong
    s.submit(quick)  # wrong
    s.submit(quick, 1, timeout="x")  # wrong
    j: int = s.submit(quick, 1).result()  # wrong
    c.submit(slow, 1)  # wrong
    s.retry(1)  # wrong
""",
    "sdk": """
async def right(command: Child[Any]) -> None:
    a: Child[float] = await spawn(slow, 1)
    b: Child[float] = await spawn(slow, 1, "x", key="k", retry=3, image="i")
    c: Child[str] = await spawn(quick, 1)
    d: Child[float] = await spawn(slow.call(number=1), name="n")
    e: Child[str] = await spawn(quick.with_options(slots=2), 1)
    f: float = await a.result()
    g: list[str] = await gather(await spawn_many(quick.call(n) for n in range(3)))
    h: list[float] = await gather(await spawn_many([slow.call(n) for n in range(3)]))
    i: list[str] = await gather(await spawn_many(child(quick, n, key=str(n)) for n in range(3)))
    j: list[str | ChildError] = await gather([c], return_exceptions=True)
    k: list[str | ChildError] = await gather([c], min_success=1)
    l: Child[bytes] = await gather([c], then=total, title="t")
    m = await spawn(add, 1, 2)
    n: Child[int] = await spawn(add, m, m)
    o: Child[int] = await spawn(add, m, 1)
    p: Child[int] = await spawn(add, 1, m)
    q: Child[bytes] = await spawn(total, [c], "title")
    r: Child[int] = await spawn(add, command, command)
    async for done in as_completed([c]):
        s: str = await done.result()
    t: tuple[list[Child[str]], list[Child[str]]] = await wait([c], first=1)
    await spawn(["ls"], env={"A": "b"}, run_after=[a, "other"])
    await spawn(None, input={"n": 1})
    await spawn_many([["ls"], quick.call(1), child(["cat"], key="c")])

async def wrong() -> None:
    await spawn(slow, "1")  # wrong
    await spawn(quick)  # wrong
    await spawn(quick, 1, 2)  # wrong
    await spawn(quick, 1, timeout="x")  # wrong
    await spawn(quick, 1, retry="x")  # wrong
    a: Child[int] = await spawn(quick, 1)  # wrong
    b: int = await (await spawn(quick, 1)).result()  # wrong
    c = await spawn(quick, 1)
    await spawn(add, c, 1)  # wrong
    await spawn(total, [await spawn(add, 1, 2)])  # wrong
    quick.call("x")  # wrong
    child(quick, "x")  # wrong
    spawn(quick, 1)  # wrong
    spawn_many([quick.call(1)])  # wrong
    c.result()  # wrong
""",
    "sync": """
def right() -> None:
    a: sync.Child[float] = sync.spawn(slow, 1)
    b: float = sync.spawn(slow.call(1)).result()
    c: list[str] = sync.gather(sync.spawn_many(quick.call(n) for n in range(3)))
    d: sync.Child[bytes] = sync.gather(sync.spawn_many([quick.call(1)]), then=total)
    for done in sync.as_completed([a]):
        e: float = done.result()

def wrong() -> None:
    sync.spawn(slow, "1")  # wrong
    a: int = sync.spawn(quick, 1).result()  # wrong
    b: list[int] = sync.gather([sync.spawn(quick, 1)])  # wrong
""",
}
ROOT = Path(__file__).resolve().parents[2]


def expected(tmp_path: Path) -> set[tuple[str, int]]:
    """Write the programs; return where errors must be, and nowhere else."""
    wrong = set()
    for name, text in PROGRAMS.items():
        lines = (FUNCTIONS + text).splitlines()
        (tmp_path / f"{name}_program.py").write_text("\n".join(lines) + "\n")
        wrong |= {
            (f"{name}_program.py", number)
            for number, line in enumerate(lines, start=1)
            if line.endswith("# wrong")
        }
    assert len(wrong) > 20
    return wrong


def test_mypy_sees_the_types(tmp_path: Path) -> None:
    wrong = expected(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"MYPYPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )
    found = {
        (parts[0], int(parts[1]))
        for parts in (line.split(":") for line in done.stdout.splitlines())
        if len(parts) > 3 and parts[2].strip() == "error"
    }
    assert found == wrong, done.stdout + done.stderr


def test_pyright_sees_the_types(tmp_path: Path) -> None:
    wrong = expected(tmp_path)
    settings = {
        "typeCheckingMode": "standard",
        "extraPaths": [str(ROOT)],
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    # A build of pyright that brings its own node: the one named pyright downloads both.
    done = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable, "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    report = json.loads(done.stdout)
    found = {
        (Path(item["file"]).name, item["range"]["start"]["line"] + 1)
        for item in report["generalDiagnostics"]
        if item["severity"] == "error"
    }
    assert found == wrong, done.stdout[:5000] + done.stderr
