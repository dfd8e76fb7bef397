"""A sweep over rates that ends as soon as one is good enough; the others are stopped."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from taskctl.sdk import ChildError, as_completed, spawn, spawn_many, task

GOAL = 0.1
MAX_EPOCHS = 500


@dataclass
class Best:
    """The trial that reached the goal first, and how many others were stopped."""

    rate: float
    loss: float
    stopped: int


@task(retry=1)
async def epoch(loss: float, rate: float) -> float:
    """Train a little: a task of its own, as it would need a machine of its own."""
    await asyncio.sleep(0.1)
    return loss * rate


@task(retry=1)
async def trial(rate: float) -> float:
    """Train with one rate until the goal is reached."""
    loss = 1.0
    for number in range(MAX_EPOCHS):
        child = await spawn(epoch, loss, rate, key=f"epoch-{number}")
        loss = await child.result()
        if loss < GOAL:
            break
    return loss


@task(retry=1)
async def main(rates: list[float]) -> Best:
    """Try all rates at once; the first one below the goal ends the sweep."""
    trials = await spawn_many(trial.call(rate) for rate in rates)
    of = {child.uid: rates[number] for number, child in enumerate(trials)}
    async for child in as_completed(trials):
        try:
            loss = await child.result()
        except ChildError as error:
            print(f"rate {of[child.uid]} gave up: {error}")
            continue
        if loss < GOAL:
            stopped = sum([await other.cancel() for other in trials if other is not child])
            return Best(of[child.uid], loss, stopped)
    raise RuntimeError("no rate reaches the goal")
