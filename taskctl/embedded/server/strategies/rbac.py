"""Roles and bindings: stored and checked, never consulted.

After Kubernetes ``pkg/apis/rbac`` (v1/defaults.go, validation/validation.go); the sentences are
theirs. The only access rule of this server is the token.
"""

from __future__ import annotations

from typing import Final

from taskctl.embedded.server.refusals import fields
from taskctl.embedded.server.refusals.errors import Json
from taskctl.embedded.server.refusals.fields import FieldError
from taskctl.embedded.server.strategies.strategy import Strategy
from taskctl.embedded.server.values import meta
from taskctl.embedded.server.values.meta import NameRule

GROUP: Final = "rbac.authorization.k8s.io"
_SUBJECT_KINDS: Final = ("ServiceAccount", "User", "Group")


class RoleStrategy(Strategy):
    """Roles and ClusterRoles."""

    name_rule = NameRule.PATH_SEGMENT
    creates_on_update = True

    def __init__(self, *, namespaced: bool) -> None:
        self._namespaced = namespaced

    def prepare_create(self, obj: Json) -> None:
        """A role without rules says so."""
        obj.setdefault("rules", None)

    def prepare_update(self, obj: Json, old: Json) -> None:
        """A role without rules says so."""
        obj.setdefault("rules", None)

    def check_create(self, obj: Json) -> list[FieldError]:
        """Check the rules."""
        found = []
        for index, rule in enumerate(obj.get("rules") or ()):
            found += self._check_rule(rule, f"rules[{index}]")
        aggregation = obj.get("aggregationRule")
        if aggregation is not None and not aggregation.get("clusterRoleSelectors"):
            message = "at least one clusterRoleSelector required if aggregationRule is non-nil"
            found.append(fields.required("aggregationRule.clusterRoleSelectors", message))
        return found

    def check_update(self, obj: Json, old: Json) -> list[FieldError]:
        """Check the rules."""
        return self.check_create(obj)

    def _check_rule(self, rule: Json, path: str) -> list[FieldError]:
        found = []
        if not rule.get("verbs"):
            message = "verbs must contain at least one value"
            found.append(fields.required(f"{path}.verbs", message))
        urls = rule.get("nonResourceURLs")
        if urls:
            where = f"{path}.nonResourceURLs"
            if self._namespaced:
                message = "namespaced rules cannot apply to non-resource URLs"
                found.append(fields.invalid(where, urls, message))
            if any(rule.get(name) for name in ("apiGroups", "resources", "resourceNames")):
                message = "rules cannot apply to both regular resources and non-resource URLs"
                found.append(fields.invalid(where, urls, message))
            return found
        for name, what in (("apiGroups", "api group"), ("resources", "resource")):
            if not rule.get(name):
                message = f"resource rules must supply at least one {what}"
                found.append(fields.required(f"{path}.{name}", message))
        return found


class BindingStrategy(Strategy):
    """RoleBindings and ClusterRoleBindings."""

    name_rule = NameRule.PATH_SEGMENT
    creates_on_update = True

    def __init__(self, *, namespaced: bool) -> None:
        self._namespaced = namespaced

    def prepare_create(self, obj: Json) -> None:
        """Set the API groups that are left out."""
        reference: Json = obj.setdefault("roleRef", {})
        reference["apiGroup"] = reference.get("apiGroup") or GROUP
        for subject in obj.get("subjects") or ():
            if subject.get("kind") in ("User", "Group"):
                subject["apiGroup"] = subject.get("apiGroup") or GROUP

    def prepare_update(self, obj: Json, old: Json) -> None:
        """Set the API groups that are left out."""
        self.prepare_create(obj)

    def check_create(self, obj: Json) -> list[FieldError]:
        """Check the reference and the subjects."""
        reference = obj["roleRef"]
        found = []
        if reference["apiGroup"] != GROUP:
            found.append(fields.not_supported("roleRef.apiGroup", reference["apiGroup"], [GROUP]))
        kinds = ("Role", "ClusterRole") if self._namespaced else ("ClusterRole",)
        if reference.get("kind") not in kinds:
            found.append(fields.not_supported("roleRef.kind", reference.get("kind", ""), kinds))
        if not reference.get("name"):
            found.append(fields.required("roleRef.name"))
        for index, subject in enumerate(obj.get("subjects") or ()):
            found += self._check_subject(subject, f"subjects[{index}]")
        return found

    def check_update(self, obj: Json, old: Json) -> list[FieldError]:
        """Check the subjects, and that the binding is still of the same role."""
        found = self.check_create(obj)
        now, then = obj["roleRef"], old["roleRef"]
        if now != then:
            shown = {
                "APIGroup": now["apiGroup"],
                "Kind": now.get("kind", ""),
                "Name": now.get("name", ""),
            }
            found.append(fields.invalid("roleRef", shown, "cannot change roleRef"))
        return found

    def _check_subject(self, subject: Json, path: str) -> list[FieldError]:
        found = []
        kind, name = subject.get("kind") or "", subject.get("name") or ""
        group, expected = subject.get("apiGroup") or "", GROUP if kind in ("User", "Group") else ""
        if not name:
            found.append(fields.required(f"{path}.name"))
        if kind not in _SUBJECT_KINDS:
            found.append(fields.not_supported(f"{path}.kind", kind, _SUBJECT_KINDS))
        elif group != expected:
            found.append(fields.not_supported(f"{path}.apiGroup", group, [expected]))
        if kind == "ServiceAccount":
            if name:
                problems = meta.subdomain_problems(name)
                found += [fields.invalid(f"{path}.name", name, one) for one in problems]
            if not self._namespaced and not subject.get("namespace"):
                found.append(fields.required(f"{path}.namespace"))
        return found
