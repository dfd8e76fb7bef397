"""A chain of functions: each call spawns the next."""

from taskctl.sdk import task
from taskctl.sdk.sync import spawn


@task
def count(number: int, limit: int) -> int:
    if number < limit:
        spawn(count, number + 1, limit)
    return number
