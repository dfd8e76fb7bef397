"""What is particular to a kind when it is written: defaults, what a client may not set, checks.

The registry strategies of Kubernetes (``pkg/registry/*/strategy.go``) cut down to the kinds this
server has. Methods get the parsed objects and may change the new one, never the old one.
"""

from __future__ import annotations

from typing import ClassVar, Final

from taskctl.embedded.server.refusals.errors import Json
from taskctl.embedded.server.refusals.fields import FieldError
from taskctl.embedded.server.storage.records import Record
from taskctl.embedded.server.storage.store import Store
from taskctl.embedded.server.values.meta import NameRule

_IDENTITY: Final = frozenset({"apiVersion", "kind", "metadata", "status"})


class Strategy:
    """A kind without peculiarities.

    Attributes:
        name_rule: what names must look like.
        returns_deleted: a finished delete answers with the object instead of a Status.
        needs_revision: a PUT without resourceVersion is refused.
        graceful: objects have a grace period.
        creates_on_update: a PUT to a free name creates the object.
    """

    name_rule: ClassVar[NameRule] = NameRule.SUBDOMAIN
    returns_deleted: ClassVar[bool] = False
    needs_revision: ClassVar[bool] = False
    graceful: ClassVar[bool] = False
    creates_on_update: ClassVar[bool] = False

    def prepare_create(self, obj: Json) -> None:
        """Set defaults and remove what a client may not set at creation."""

    def prepare_update(self, obj: Json, old: Json) -> None:
        """Undo what this path may not change."""
        take_over(obj, old, "status")

    def prepare_status(self, obj: Json, old: Json) -> None:
        """Undo what a write to ``/status`` may not change."""
        take_over(obj, old, "spec")
        # Kubernetes does this for pods since old kubelets damaged the references; harmless
        # elsewhere.
        take_over(obj["metadata"], old["metadata"], "ownerReferences")

    def prepare_delete(self, obj: Json) -> None:
        """Change an object that begins to be deleted."""

    def admit_create(self, obj: Json, store: Store, now: str) -> None:
        """Refuse, or complete, a new object because of what else is stored.

        Args:
            obj: the new object, defaulted.
            store: everything else.
            now: the time, as objects have it.

        Raises:
            errors.StatusError: refused.
        """

    def admit_delete(self, record: Record) -> None:
        """Refuse to delete an object.

        Raises:
            errors.StatusError: refused.
        """

    def check_create(self, obj: Json) -> list[FieldError]:
        """Return what is wrong with a new object."""
        return []

    def check_update(self, obj: Json, old: Json) -> list[FieldError]:
        """Return what is wrong with a changed object."""
        return []

    def check_status(self, obj: Json, old: Json) -> list[FieldError]:
        """Return what is wrong with a changed status."""
        return []

    def grace_s(self, obj: Json, asked_s: int | None) -> int:
        """Return the seconds between the request to delete ``obj`` and its removal."""
        return 0


def take_over(obj: Json, old: Json, name: str) -> None:
    """Set a field to what it was, or remove it if it was not there."""
    if name in old:
        obj[name] = old[name]
    else:
        obj.pop(name, None)


class CustomStrategy(Strategy):
    """Custom resources (apiextensions-apiserver ``customresource/strategy.go``)."""

    needs_revision = True

    def __init__(self, *, has_status: bool) -> None:
        self._has_status = has_status

    def prepare_create(self, obj: Json) -> None:
        """Drop the status where it is a subresource."""
        if self._has_status:
            obj.pop("status", None)
        obj["metadata"]["generation"] = 1

    def prepare_update(self, obj: Json, old: Json) -> None:
        """Keep the status where it is a subresource; count changes of the rest."""
        if self._has_status:
            take_over(obj, old, "status")
        generation = old["metadata"].get("generation", 1)
        if _content(obj) != _content(old) or (
            not self._has_status and obj.get("status") != old.get("status")
        ):
            generation += 1
        obj["metadata"]["generation"] = generation

    def prepare_status(self, obj: Json, old: Json) -> None:
        """Keep everything but the status, and the bookkeeping of who owns which field."""
        status, had = obj.get("status"), "status" in obj
        keep_old(obj, old)
        obj.pop("status", None)
        if had:
            obj["status"] = status


def keep_old(obj: Json, old: Json) -> None:
    """Make an object the stored one, but for the bookkeeping of who owns which field."""
    managed = obj["metadata"].get("managedFields")
    obj.clear()
    obj.update(old)
    obj["metadata"] = dict(old["metadata"])
    if managed is not None:
        obj["metadata"]["managedFields"] = managed


def _content(obj: Json) -> Json:
    return {name: value for name, value in obj.items() if name not in _IDENTITY}


_CUSTOM: Final = {flag: CustomStrategy(has_status=flag) for flag in (False, True)}


def custom_strategy(*, has_status: bool) -> Strategy:
    """Return the strategy of a custom resource."""
    return _CUSTOM[has_status]
