"""``python -m taskctl``, and the ``taskctl`` script."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Run the command line; does not return."""
    if os.getpid() == 1:
        # The first process of a container (the agent) does not get signals it has no handler
        # for, so a stop during the imports would only end with SIGKILL.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    from taskctl.cli.app import build_app

    build_app()(prog_name="taskctl")


if __name__ == "__main__":
    main()
