"""Parts of taskctl that a small installation has not, and how to get them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final

from taskctl.cli.exits import CliError, ExitCode
from taskctl.embedded.host import require_linux

# By the name of the extra in pyproject.toml: the modules that it brings.
PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "controller": ("prometheus_client",),
    "local": ("cel", "cryptography", "jsonpatch", "prometheus_client", "re2"),
    "otel": ("opentelemetry.exporter.otlp.proto.http", "opentelemetry.sdk"),
}
_NAMES: Final = {"controller": "the controller", "local": "the local stack", "otel": "tracing"}


def require(part: str) -> None:
    """Make sure that a part of taskctl can run.

    Args:
        part: key of PARTS.

    Raises:
        CliError: packages are missing; says how to install them.
        ConfigError: this machine cannot run the part; says what works here.
    """
    if part == "local":
        require_linux()
    missing = [module for module in PARTS[part] if not _is_there(module)]
    if missing:
        raise CliError(
            f"{_NAMES[part]} needs packages that a plain `pip install taskctl` leaves out "
            f"({', '.join(missing)}); run: pip install 'taskctl[{part}]'",
            ExitCode.USAGE,
        )


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it is in
        return False
