"""Word count by map and reduce: one task for each part of a text, one that adds up their counts."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from taskctl.sdk import Group, current, gather, spawn_many, task

WORDS = ("lorem", "ipsum", "dolor", "sit", "amet", "consetetur", "sadipscing", "elitr")


def text_of(part: int, lines: int = 200) -> str:
    """Return a part of the text; the same for the same number."""
    chance = random.Random(part)
    return "\n".join(" ".join(chance.choices(WORDS, k=10)) for _ in range(lines))


@task(retry=2)
def count_words(path: Path) -> dict[str, int]:
    """Map: count the words of one file."""
    return dict(Counter(path.read_text().split()))


@task(retry=2)
def add_up(results: Iterable[dict[str, int]]) -> dict[str, int]:
    """Reduce: add up the counts. They come one by one, however many there are."""
    total: Counter[str] = Counter()
    for counts in results:
        total.update(counts)
    return dict(sorted(total.items()))


@task(retry=2)
async def main(maps: int) -> dict[str, int]:
    """Write the text, spawn the maps by one call, and a task that runs after all of them."""
    folder = current().task_dir
    paths = [folder / f"part-{number}.txt" for number in range(maps)]
    for number, path in enumerate(paths):
        path.write_text(text_of(number))
    mapper = count_words.with_options(group="maps")
    await spawn_many(mapper.call(path) for path in paths)
    reducer = await gather(Group("maps", count=maps), then=add_up)
    return await reducer.result()
