"""Ties a component's life to that of the supervisor which started it (Linux).

A supervisor that is killed with SIGKILL cannot stop its children, so the kernel does:
prctl(PR_SET_PDEATHSIG). Set by the child itself, because code between fork and exec is a
trap in a process with threads.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import MutableMapping

ENV_SUPERVISOR = "TASKCTL_SUPERVISOR"  # "<pid> <signal>"
_PR_SET_PDEATHSIG = 1


def lifeline_env(death_signal: signal.Signals) -> dict[str, str]:
    """Return what the environment of a child needs for :func:`attach`."""
    return {ENV_SUPERVISOR: f"{os.getpid()} {int(death_signal)}"}


def attach(environ: MutableMapping[str, str] | None = None) -> None:
    """Ask the kernel for a signal at the supervisor's death; without a supervisor do nothing.

    The variable is taken out, so that processes further down are not tied as well.
    """
    environ = os.environ if environ is None else environ
    text = environ.pop(ENV_SUPERVISOR, "")
    if not text or sys.platform != "linux":
        return
    import ctypes

    pid, number = (int(part) for part in text.split())
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != pid:  # it died before we asked
        os.kill(os.getpid(), number)
