"""``python -m taskctl``, and the ``taskctl`` script."""

from __future__ import annotations

import io
import os
import signal
import sys


def main() -> None:
    """Run the command line; does not return."""
    if os.getpid() == 1:
        # The first process of a container (the agent) does not get signals it has no handler
        # for, so a stop during the imports would only end with SIGKILL.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A message may have letters that the terminal's character set has not.
        sys.stdout.reconfigure(errors="backslashreplace")
    from taskctl.cli.app import build_app

    completing = any(name.startswith("_TASKCTL_COMPLETE") for name in os.environ)
    build_app(() if completing else sys.argv[1:])(prog_name="taskctl")


if __name__ == "__main__":
    main()
