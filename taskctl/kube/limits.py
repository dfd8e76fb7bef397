"""How many requests a client may send; loads nothing, so that a command line can show them."""

from __future__ import annotations

from typing import Final

# A busy controller's; taskctl.kube.config says why so many.
DEFAULT_QPS: Final = 100.0
DEFAULT_BURST: Final = 200
MAX_QPS: Final = 1_000_000.0
MAX_BURST: Final = 1_000_000
