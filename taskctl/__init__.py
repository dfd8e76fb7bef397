"""taskctl: dynamic batch work on warm Kubernetes worker pods.

This module stays empty on purpose: it is imported inside every task, where each
millisecond counts. In a task, use :mod:`taskctl.sdk`; on the outside, the ``taskctl``
command.
"""

__version__ = "0.1.0"
