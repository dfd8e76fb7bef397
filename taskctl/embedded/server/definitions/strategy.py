"""Writing CustomResourceDefinitions: defaults, checks, and the status they get at once."""

from __future__ import annotations

from typing import Any, Final

from taskctl.embedded.server.definitions.crds import check_crd
from taskctl.embedded.server.refusals import errors, fields
from taskctl.embedded.server.refusals.errors import Json, Resource
from taskctl.embedded.server.refusals.fields import FieldError
from taskctl.embedded.server.storage.store import Store
from taskctl.embedded.server.strategies.strategy import Strategy
from taskctl.embedded.server.values.meta import IMMUTABLE

CRDS: Final = Resource("apiextensions.k8s.io", "customresourcedefinitions")
FINALIZER: Final = "customresourcecleanup.apiextensions.k8s.io"


class CrdStrategy(Strategy):
    """CustomResourceDefinitions.

    On a Kubernetes server controllers accept the names and establish the kind a moment after
    the definition is created; here both have happened when the create is answered.
    """

    needs_revision = True

    def prepare_create(self, obj: Json) -> None:
        """Set defaults, the finalizer that guards the objects, and the status."""
        metadata: Json = obj["metadata"]
        metadata["generation"] = 1
        metadata["finalizers"] = list(dict.fromkeys([*metadata.get("finalizers", ()), FINALIZER]))
        _set_defaults(obj)
        obj.pop("status", None)

    def admit_create(self, obj: Json, store: Store, now: str) -> None:
        """Refuse names that another definition of the group has, then fill in the status.

        Raises:
            errors.StatusError: 422.
        """
        problems = check_crd(obj)
        if not problems:
            problems = _clashes(obj, store)
        if problems:
            kind, name = "CustomResourceDefinition", obj["metadata"].get("name", "")
            raise errors.invalid(CRDS.group, kind, name, problems)
        _set_status(obj, None)
        obj["status"]["conditions"] = _conditions(now)

    def prepare_update(self, obj: Json, old: Json) -> None:
        """Set defaults; count changes of the spec; keep the status up to date with it."""
        _set_defaults(obj)
        generation = old["metadata"].get("generation", 1)
        obj["metadata"]["generation"] = generation + (obj.get("spec") != old.get("spec"))
        super().prepare_update(obj, old)
        if isinstance(obj.get("spec"), dict) and isinstance(obj["spec"].get("names"), dict):
            _set_status(obj, old)

    def check_update(self, obj: Json, old: Json) -> list[FieldError]:
        """Check the definition, and what may not change once objects can exist."""
        found = check_crd(obj)
        if found:
            return found
        spec, before = obj["spec"], old["spec"]
        for path, now, then in (
            ("spec.group", spec["group"], before["group"]),
            ("spec.names.plural", spec["names"]["plural"], before["names"]["plural"]),
            ("spec.names.kind", spec["names"]["kind"], before["names"]["kind"]),
            ("spec.scope", spec["scope"], before["scope"]),
        ):
            if now != then:
                found.append(fields.invalid(path, now, IMMUTABLE))
        defined = {version["name"] for version in spec["versions"]}
        stored = (old.get("status") or {}).get("storedVersions") or ()
        found += [
            fields.invalid(
                "status.storedVersions",
                name,
                f"missing from spec.versions; {name} was previously a storage version, and must "
                "remain in spec.versions until a storage migration ensures no data remains "
                f"persisted in {name} and removes {name} from status.storedVersions",
            )
            for name in stored
            if name not in defined
        ]
        return found


def _set_defaults(obj: Json) -> None:
    spec = obj.get("spec")
    if not isinstance(spec, dict):
        return
    names = spec.get("names")
    if isinstance(names, dict) and isinstance(names.get("kind"), str):
        names.setdefault("singular", names["kind"].lower())
        names.setdefault("listKind", f"{names['kind']}List")
    spec.setdefault("conversion", {"strategy": "None"})


def _clashes(obj: Json, store: Store) -> list[FieldError]:
    mine: Json = obj["spec"]["names"]
    found = []
    for record in store.records(CRDS):
        other: Json = record.load()["spec"]
        if other["group"] != obj["spec"]["group"] or record.name == obj["metadata"].get("name"):
            continue
        for name in ("kind", "listKind", "singular"):
            if mine.get(name) and mine[name] == other["names"].get(name):
                message = f"already in use by {record.name}"
                found.append(fields.invalid(f"spec.names.{name}", mine[name], message))
    return found


def _set_status(obj: Json, old: Json | None) -> None:
    spec: Json = obj["spec"]
    status: Json = dict((old or {}).get("status") or {})
    status["acceptedNames"] = spec["names"]
    stored: list[Any] = list(status.get("storedVersions") or ())
    for version in spec.get("versions") or ():
        if version.get("storage") and version["name"] not in stored:
            stored.append(version["name"])
    status["storedVersions"] = stored
    obj["status"] = status


def _conditions(now: str) -> list[Json]:
    """The conditions of a definition that is served."""
    texts = (
        ("NamesAccepted", "NoConflicts", "no conflicts found"),
        ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    )
    return [
        {
            "type": kind,
            "status": "True",
            "lastTransitionTime": now,
            "reason": reason,
            "message": message,
        }
        for kind, reason, message in texts
    ]
