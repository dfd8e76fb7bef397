"""A crawl of directories with links in circles: each directory is visited once, by one task."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from taskctl.sdk import Child, KeyConflict, current, gather, spawn, task


@dataclass
class Found:
    """What lies in a directory and in those that were reached from it first."""

    directories: int
    files: int
    size_bytes: int


def make_tree(top: Path, width: int, depth: int) -> None:
    """Make directories with files, and links from each to the top, its parent and a sibling."""
    top.mkdir(parents=True, exist_ok=True)
    (top / "file.txt").write_text(top.name * 10)
    if depth == 0:
        return
    for number in range(width):
        below = top / f"d{number}"
        make_tree(below, width, depth - 1)
        for name, target in (("up", top), ("next", top / f"d{(number + 1) % width}")):
            if not (below / name).is_symlink():
                (below / name).symlink_to(target)


def task_name(directory: Path) -> str:
    """Return the name of the task that visits a directory: there can be only one of it."""
    digest = hashlib.sha256(str(directory).encode()).hexdigest()[:16]
    return f"{current().root}-{digest}"


def entries(directory: Path) -> list[Path]:
    """Return what lies in a directory."""
    return sorted(directory.iterdir())


@task(retry=2)
async def crawl(directory: Path) -> Found:
    """Visit a directory; those below it that no other task visits get tasks of their own."""
    found = Found(directories=1, files=0, size_bytes=0)
    children: list[Child[Found]] = []
    for entry in entries(directory):
        if entry.is_dir():
            target = entry.resolve()
            try:
                children.append(await spawn(crawl, target, key=str(target), name=task_name(target)))
            except KeyConflict:
                continue  # it is visited already, by the child of another task
        else:
            found.files += 1
            found.size_bytes += entry.stat().st_size
    for below in await gather(children):
        found.directories += below.directories
        found.files += below.files
        found.size_bytes += below.size_bytes
    return found


@task(retry=2)
async def main(width: int, depth: int) -> Found:
    """Make the directories, and crawl from the top."""
    top = (current().task_dir / "site").resolve()
    make_tree(top, width, depth)
    child = await spawn(crawl, top, key="top", name=task_name(top))
    return await child.result()
