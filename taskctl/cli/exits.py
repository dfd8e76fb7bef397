"""Exit codes, and errors as one line with a remedy."""

from __future__ import annotations

from enum import IntEnum

from taskctl.constants import GROUP
from taskctl.errors import (
    ApiError,
    ConfigError,
    Forbidden,
    Invalid,
    NotFound,
    TaskctlError,
    Unauthorized,
    Unavailable,
)


class ExitCode(IntEnum):
    """What the ``taskctl`` command returns."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    TIMED_OUT = 4
    UNREACHABLE = 5
    INTERRUPTED = 130


EXIT_CODES_HELP = (
    "Exit codes: 0 ok, 1 failed or refused, 2 wrong usage or setting, 3 not found, "
    "4 timed out, 5 API server not reachable."
)


class CliError(TaskctlError):
    """A verb cannot do what was asked.

    Args:
        message: one line; says the remedy where there is one.
        code: the exit code.
    """

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.code = code


class UsageError(CliError):
    """Options contradict each other, or one is malformed."""

    def __init__(self, message: str) -> None:
        super().__init__(message, ExitCode.USAGE)


def describe(error: TaskctlError) -> tuple[ExitCode, list[str]]:
    """Return the exit code of an error and the lines to print, the first being the error."""
    match error:
        case CliError():
            return error.code, [str(error)]
        case ConfigError():
            return ExitCode.USAGE, [str(error)]
        case NotFound():
            return ExitCode.NOT_FOUND, [_not_found(error)]
        case Unavailable():
            return ExitCode.UNREACHABLE, [str(error)]
        case Unauthorized():
            return ExitCode.FAILED, [f"{error}; the credentials are not valid. {_WHERE}"]
        case Forbidden():
            return ExitCode.FAILED, [f"{error}; ask for a Role that allows it"]
        case Invalid(causes=causes) if causes:
            details = [f"  {cause.field}: {cause.message}".rstrip() for cause in causes]
            return ExitCode.FAILED, [str(error), *details] if len(causes) > 1 else [str(error)]
        case ApiError():
            return ExitCode.FAILED, [str(error)]
    return ExitCode.FAILED, [str(error)]


_WHERE = "It is taken from --kubeconfig, $KUBECONFIG or ./.taskctl (taskctl local)"


def _not_found(error: NotFound) -> str:
    # A 404 for the path, not for an object: the kind itself is unknown there. Without any kind
    # of the group, a kube-apiserver answers in plain text.
    unknown_kind = "could not find the requested resource" in error.message
    if unknown_kind or (not error.reason and f"/apis/{GROUP}/" in error.message):
        return f"the API server does not know {GROUP}; install the CRDs: taskctl crds --apply"
    return str(error)
