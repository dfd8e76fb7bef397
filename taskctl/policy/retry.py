"""Does a failed attempt get another one, and when?

Failures by the task's own doing are charged against ``spec.retry.limit`` and answered with
an exponential back-off. Attempts lost with their worker or container are not charged; they
have a cap of their own, so that a task that takes its worker down cannot do so forever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from taskctl.backoff import EXACT, Backoff

MAX_INFRA_FAILURES: Final = 10
MAX_INFRA_DELAY_S: Final = 30.0
_INFRA_BACKOFF: Final = Backoff(1.0, MAX_INFRA_DELAY_S, EXACT)
# Containers that end without a word on a worker that is well: a mishap once or twice, after that
# the task's own doing (it kills its supervisor, for example).
MAX_CONTAINER_LOSSES: Final = 3
_SIGNAL_EXIT_BASE: Final = 128


@dataclass(frozen=True, slots=True)
class RetryRule:
    """``Task.spec.retry``.

    Attributes:
        limit: charged failures after which another attempt follows.
        backoff_s: delay after the first failure; doubles with each one.
        max_backoff_s: upper bound of the delay.
        jitter: 0..1: the delay is spread over ±this share of itself.
        on_exit_codes: if not empty, only these exit codes are retried.
        except_exit_codes: these exit codes are not retried.
    """

    limit: int = 0
    backoff_s: float = 1.0
    max_backoff_s: float = 300.0
    jitter: float = 0.2
    on_exit_codes: frozenset[int] = frozenset()
    except_exit_codes: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Another attempt, ``delay_s`` seconds from now."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No further attempt.

    Attributes:
        message: one sentence on why not; empty where no retry was asked for.
    """

    message: str


def parse_retry(spec: Mapping[str, Any]) -> RetryRule:
    """Return ``spec.retry`` of a Task, absent fields as the CRD defaults them."""
    raw = spec.get("retry") or {}
    default = RetryRule()
    return RetryRule(
        limit=int(raw.get("limit") or 0),
        backoff_s=float(_given(raw.get("backoffSeconds"), default.backoff_s)),
        max_backoff_s=float(_given(raw.get("maxBackoffSeconds"), default.max_backoff_s)),
        jitter=float(_given(raw.get("jitter"), default.jitter)),
        on_exit_codes=frozenset(raw.get("onExitCodes") or ()),
        except_exit_codes=frozenset(raw.get("exceptExitCodes") or ()),
    )


def _given(value: Any, default: float) -> Any:
    return default if value is None else value


def rule_exit_code(code: int, signal: int) -> int:
    """Return the number that the exit-code rules compare with: 128 + n for signal n, as in sh."""
    return _SIGNAL_EXIT_BASE + signal if signal else code


def decide_retry(
    policy: RetryRule, failures: int, exit_code: int | None, jitter: float
) -> RetryLater | GiveUp:
    """Decide on a failure by the task's own doing.

    Args:
        policy: ``spec.retry``.
        failures: charged failures, this one included (≥ 1).
        exit_code: see :func:`rule_exit_code`; None where the command has none of its own
            (a timeout), which no ``onExitCodes`` list names.
        jitter: drawn by the caller from [0, 1).
    """
    if failures > policy.limit:
        if policy.limit == 0:
            return GiveUp("")
        return GiveUp(f"No retry is left of retry.limit={policy.limit}.")
    if policy.on_exit_codes and exit_code not in policy.on_exit_codes:
        return GiveUp("retry.onExitCodes does not name this exit.")
    if exit_code in policy.except_exit_codes:
        return GiveUp(f"retry.exceptExitCodes names {exit_code}.")
    return RetryLater(backoff_delay_s(policy, failures, jitter))


def backoff_delay_s(policy: RetryRule, failures: int, jitter: float) -> float:
    """Return the delay after that many failures, in seconds, at most ``max_backoff_s``."""
    spread = (1.0 - policy.jitter, 1.0 + policy.jitter)
    backoff = Backoff(policy.backoff_s, policy.max_backoff_s, spread)
    return min(backoff.pause_s(max(failures, 1), jitter), policy.max_backoff_s)


def longest_delay_s(policy: RetryRule, failures: int, infra_failures: int) -> float:
    """Return the longest that a Task may be made to wait for its next attempt, in seconds.

    Whichever kind of failure the wait is for.
    """
    longest = [0.0]
    if failures:
        longest.append(backoff_delay_s(policy, failures, 1.0))
    if infra_failures:
        longest.append(_infra_delay_s(infra_failures))
    return max(longest)


def _infra_delay_s(infra_failures: int) -> float:
    return _INFRA_BACKOFF.pause_s(infra_failures - 1)


def decide_infra_retry(infra_failures: int) -> RetryLater | GiveUp:
    """Decide on an attempt lost with its worker or container.

    The first one is tried again at once (the task is not to blame for a rotation or a drain);
    then 1, 2, 4 … s, at most ``MAX_INFRA_DELAY_S``.

    Args:
        infra_failures: such losses, this one included (≥ 1).
    """
    if infra_failures >= MAX_INFRA_FAILURES:
        return GiveUp(f"{infra_failures} attempts were lost with their worker or container.")
    return RetryLater(_infra_delay_s(infra_failures))
