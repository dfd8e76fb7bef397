"""Parallel quicksort: each part is a file in the workspace, and a task waits for its halves."""

import hashlib
import random
from array import array
from dataclasses import dataclass
from pathlib import Path

from taskctl.sdk import current, task
from taskctl.sdk.sync import gather, spawn_many

SMALL = 2_000  # numbers that one task sorts by itself


@dataclass
class Sorted:
    """What the root returns."""

    count: int
    sha256: str
    file: Path


@task
def sort_random(count: int, seed: int) -> Sorted:
    """Make random numbers and sort them by a tree of tasks."""
    numbers = random.Random(seed)
    unsorted = current().task_dir / "numbers"
    write(unsorted, array("q", (numbers.getrandbits(40) for _ in range(count))))
    [made] = gather(spawn_many([quicksort.call(unsorted)]))
    content = made.read_bytes()
    return Sorted(len(content) // 8, hashlib.sha256(content).hexdigest(), made)


@task(retry=2)
def quicksort(part: Path) -> Path:
    """Sort a file of numbers; returns the sorted file."""
    numbers = array("q", part.read_bytes())
    here = current().task_dir  # the same on every attempt
    if len(numbers) <= SMALL or min(numbers) == max(numbers):
        return write(here / "sorted", array("q", sorted(numbers)))
    pivot = sorted(numbers[:: max(1, len(numbers) // 99)])[50]
    if pivot == min(numbers):
        pivot += 1
    lower = write(here / "lower", array("q", (n for n in numbers if n < pivot)))
    upper = write(here / "upper", array("q", (n for n in numbers if n >= pivot)))
    # This task takes no slot while it waits, so the tree may be deeper than there are slots.
    halves = gather(spawn_many([quicksort.call(lower), quicksort.call(upper)]))
    whole = array("q")
    for half in halves:
        whole.frombytes(half.read_bytes())
    return write(here / "sorted", whole)


def write(path: Path, numbers: "array[int]") -> Path:
    """Write a file in one go: whoever finds it finds it whole."""
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(numbers.tobytes())
    return temporary.rename(path)
