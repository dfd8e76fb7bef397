"""The measurements: single starts, chains, bursts; each returns plain numbers."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.cluster.choice import Choose
from bench.cluster.fleet import Fleet
from bench.cluster.podside import PodSide
from bench.cluster.stamps import Stamps, user_command
from bench.cluster.taskside import TaskSide

SEEN_S: Final = 30.0
BURST_S: Final = 120.0
CREATE_AT_A_TIME: Final = 32
# A pod worker is at rest two relists of a second each after its last start.
REST_S: Final = 2.3

Start = Callable[[str], Awaitable[object]]


@dataclass(frozen=True)
class Burst:
    """What many tasks at once took.

    Attributes:
        count: how many.
        user_s: from the first request to the last user code.
        done_s: from the first request until all of them are known to be over.
    """

    count: int
    user_s: float
    done_s: float


async def user_code(
    seen: Sequence[asyncio.Future[float]], what: str, limit_s: float
) -> list[float]:
    """Wait until the user code of all of them has run; returns when it did, in seconds.

    Raises:
        TimeoutError: it has not in time; says how many are missing.
    """
    try:
        return await asyncio.wait_for(asyncio.gather(*seen), limit_s)
    except TimeoutError as error:
        missing = sum(not one.done() or one.cancelled() for one in seen)
        count = f"{missing} of {len(seen)} {what}"
        raise TimeoutError(f"user code of {count} not seen after {limit_s:.0f} s") from error


async def single(stamps: Stamps, name: str, start: Start) -> float:
    """Start one task; returns the time from the request to its user code, in ms."""
    seen = stamps.expect(name)
    created = time.time()
    await start(name)
    (started,) = await user_code([seen], name, SEEN_S)
    return (started - created) * 1000


async def singles(
    stamps: Stamps, ways: Sequence[tuple[str, Start]], pause_s: float
) -> dict[str, list[float]]:
    """Start one task after the other, with a pause; ways take turns as given."""
    found: dict[str, list[float]] = {}
    for number, (way, start) in enumerate(ways):
        await asyncio.sleep(pause_s)
        found.setdefault(way, []).append(await single(stamps, f"s-{way}-{number}", start))
    return found


async def chain(stamps: Stamps, prefix: str, hops: int, start: Start) -> list[float]:
    """Start each task as soon as the user code of the one before is seen; returns hops in ms."""
    await asyncio.sleep(REST_S)
    starts = []
    for number in range(hops + 1):
        seen = stamps.expect(f"{prefix}-{number}")
        await start(f"{prefix}-{number}")
        starts += await user_code([seen], f"{prefix}-{number}", SEEN_S)
    return _gaps_ms(starts)


def raw_start(fleet: Fleet, choose: Choose) -> Start:
    """Return what starts one raw task on the worker chosen."""
    return lambda name: fleet.start(choose(fleet.workers), [name])


def task_start(side: TaskSide, cluster: str) -> Start:
    """Return what starts one Task."""
    return lambda name: side.task(cluster, name, user_command(name))


async def own_chain(stamps: Stamps, side: TaskSide, cluster: str, hops: int) -> list[float]:
    """Let each task create the next itself; returns hops in ms."""
    await asyncio.sleep(REST_S)
    prefix = f"own-{cluster}"
    script = (
        f"n=${{TASK_NAME##*-}}; echo $EPOCHREALTIME >/workspace/bench/$TASK_NAME; "
        f'if [ "$n" -lt {hops} ]; then'
        f" taskctl-init spawn --key next --name {prefix}-$((n + 1)) >/dev/null; fi"
    )
    seen = [stamps.expect(f"{prefix}-{number}") for number in range(hops + 1)]
    await side.task(cluster, f"{prefix}-0", ["sh", "-ec", script])
    return _gaps_ms(await user_code(seen, prefix, SEEN_S * hops))


def _gaps_ms(starts: list[float]) -> list[float]:
    return [(later - earlier) * 1000 for earlier, later in itertools.pairwise(starts)]


async def pauses(stamps: Stamps, prefix: str, count: int, start: Start) -> list[float]:
    """Start tasks with random pauses of 0.3 to 1.2 s (the same ones each time)."""
    await asyncio.sleep(REST_S)
    chance = random.Random(7)
    found = []
    for number in range(count):
        found.append(await single(stamps, f"{prefix}-{number}", start))
        await asyncio.sleep(chance.uniform(0.3, 1.2))
    return found


async def raw_burst(stamps: Stamps, fleet: Fleet, count: int) -> Burst:
    """Add all containers at once, an equal share to each worker in one PATCH."""
    names = [f"rb-{number}" for number in range(count)]
    seen = [stamps.expect(name) for name in names]
    workers = fleet.workers
    shares = [names[first :: len(workers)] for first in range(len(workers))]
    began = time.time()
    await asyncio.gather(*(fleet.start(w, s) for w, s in zip(workers, shares, strict=True)))
    last = max(await user_code(seen, "raw", BURST_S))
    return Burst(count, last - began, time.time() - began)


async def burst(stamps: Stamps, prefix: str, count: int, start: Start) -> Burst:
    """Create all tasks, 32 requests at a time."""
    gate = asyncio.Semaphore(CREATE_AT_A_TIME)
    names = [f"{prefix}-{number}" for number in range(count)]
    seen = [stamps.expect(name) for name in names]

    async def create(name: str) -> None:
        async with gate:
            await start(name)

    began = time.time()
    await asyncio.gather(*(create(name) for name in names))
    last = max(await user_code(seen, prefix, BURST_S))
    return Burst(count, last - began, time.time() - began)


def pod_start(side: PodSide) -> Start:
    """Return what starts one bare pod."""
    return side.pod


def job_start(side: PodSide) -> Start:
    """Return what starts one Job."""
    return side.job
