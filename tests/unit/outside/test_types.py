"""What a type checker says of programs that use the client."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
from taskctl import Client, Executor, SyncClient, run_here
from taskctl.sdk import task

@task
async def slow(number: int, text: str = "") -> float: ...

@task
def quick(number: int) -> str: ...

def plain(number: int) -> bytes: ...

async def right(c: Client, s: SyncClient, e: Executor) -> None:
    a: float = await (await c.submit(slow, 1)).result()
    b: float = await (await c.submit(slow, 1, "x", image="i"))
    d: str = s.submit(quick, 1).result()
    f: bytes = s.submit(plain, 1, retry=3).result()
    g: float = await (await c.submit(slow.call(number=1)))
    h: list[bytes] = await c.gather(await c.map(plain, [1]))
    i: str = e.submit(quick, 1).result()
    await c.submit(["ls"], env={"A": "b"})

async def wrong(c: Client, s: SyncClient) -> None:
    await c.submit(slow, "1")
    s.submit(quick)
    s.submit(quick, 1, timeout="x")
    j: int = s.submit(quick, 1).result()
"""


def test_mypy_sees_the_types(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--follow-imports=silent",
            "--disable-error-code=empty-body",
            str(path),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"MYPYPATH": str(Path(__file__).resolve().parents[3]), "PATH": "/usr/bin:/bin"},
    )
    lines = PROGRAM.splitlines()
    found = [line for line in done.stdout.splitlines() if line.startswith("program.py:")]
    wrong = {int(line.split(":")[1]) for line in found if ": error:" in line}
    start = lines.index("async def wrong(c: Client, s: SyncClient) -> None:") + 1
    assert wrong == {start + 1, start + 2, start + 3, start + 4}, done.stdout + done.stderr
