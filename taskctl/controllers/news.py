"""Events that tell people what the controllers have done or met with."""

from __future__ import annotations

from taskctl.kube.events import EventRecorder, EventSort
from taskctl.kube.interface import KubeObject


class News:
    """Publishes Events.

    Args:
        recorder: writes them.
    """

    def __init__(self, recorder: EventRecorder) -> None:
        self._recorder = recorder
        # Set once we may act; a second controller that only watches would say all twice.
        self.leading = False

    def warn(self, obj: KubeObject, reason: str, message: str) -> None:
        """Publish a warning about what we have done ourselves."""
        self._recorder.record(obj, EventSort.WARNING, reason, message)

    def note(self, obj: KubeObject, reason: str, message: str) -> None:
        """Publish a normal Event about what we have done ourselves."""
        self._recorder.record(obj, EventSort.NORMAL, reason, message)

    def warn_seen(self, obj: KubeObject, reason: str, message: str) -> bool:
        """Publish a warning about what every controller sees, if we are the one to act.

        Returns:
            Whether we are.
        """
        if self.leading:
            self.warn(obj, reason, message)
        return self.leading

    def note_seen(self, obj: KubeObject, reason: str, message: str) -> bool:
        """Publish a normal Event about what every controller sees, if we are the one to act.

        Returns:
            Whether we are.
        """
        if self.leading:
            self.note(obj, reason, message)
        return self.leading
