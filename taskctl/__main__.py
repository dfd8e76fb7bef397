"""``python -m taskctl``, and the ``taskctl`` script."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from typing import Final, NoReturn

_COMPLETE: Final = "_TASKCTL_COMPLETE"


def main() -> None:
    """Run the command line; does not return."""
    if os.getpid() == 1:
        # The first process of a container (the agent) does not get signals it has no handler
        # for, so a stop during the imports would only end with SIGKILL.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A message may have letters that the terminal's character set has not.
        sys.stdout.reconfigure(errors="backslashreplace")
    if os.environ.get(_COMPLETE, "").startswith("complete_"):
        _complete()
    from taskctl.cli.app import build_app

    build_app(() if _COMPLETE in os.environ else sys.argv[1:])(prog_name="taskctl")


def _complete() -> NoReturn:
    """Answer the shell's question for what may follow. It would show any message in mid-line."""
    code: object = 1
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        from taskctl.cli.app import build_app
        from taskctl.cli.completing import typed_words

        build_app(typed_words(os.environ))(prog_name="taskctl")
    except SystemExit as end:
        code = end.code
    finally:
        # At once: a look-up that hangs would be waited for.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
