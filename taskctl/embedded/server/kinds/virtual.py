"""Kinds that can be created but are not stored: the answer to their creation is the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

AUTHENTICATION: Final = "authentication.k8s.io"
AUTHORIZATION: Final = "authorization.k8s.io"


@dataclass(frozen=True, slots=True)
class VirtualKind:
    """A kind of the body of a POST.

    Attributes:
        group: "" for the core group.
        kind: for example ``TokenReview``.
        plural: in the path; "" for the bodies of subresources.
        namespaced: the path has a namespace.
        older: versions besides v1 in which the body may come.
    """

    group: str
    kind: str
    plural: str = ""
    namespaced: bool = False
    older: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """The version in which it is served."""
        return "v1"

    @property
    def api_version(self) -> str:
        """What the body has as its ``apiVersion``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def singular(self) -> str:
        """The name that ``kubectl`` takes, too."""
        return self.kind.lower()

    def is_meant_by(self, api_version: str, kind: str) -> bool:
        """Whether a body that says so of itself, or nothing, is one of this kind."""
        versions = ("", self.api_version, *(f"{self.group}/{one}" for one in self.older))
        return kind in ("", self.kind) and api_version in versions

    def not_meant(self, api_version: str, kind: str) -> str:
        """Say why a body that says so of itself is none of this kind."""
        api_version, kind = api_version or self.api_version, kind or self.kind
        if any((one.api_version, one.kind) == (api_version, kind) for one in VIRTUAL_KINDS):
            package = self.group.partition(".")[0] or "core"
            there = f"({self.version}.{kind}) to ({package}.{self.kind})"
            return f"converting {there}: unknown conversion"
        return f'no kind "{kind}" is registered for version "{api_version}"'


BINDING: Final = VirtualKind("", "Binding", "bindings", namespaced=True)
EVICTION: Final = VirtualKind("policy", "Eviction", older=("v1beta1",))
TOKEN_REQUEST: Final = VirtualKind(AUTHENTICATION, "TokenRequest")
SELF_SUBJECT_REVIEW: Final = VirtualKind(AUTHENTICATION, "SelfSubjectReview", "selfsubjectreviews")
TOKEN_REVIEW: Final = VirtualKind(AUTHENTICATION, "TokenReview", "tokenreviews")
SELF_ACCESS_REVIEW: Final = VirtualKind(
    AUTHORIZATION, "SelfSubjectAccessReview", "selfsubjectaccessreviews"
)
SELF_RULES_REVIEW: Final = VirtualKind(
    AUTHORIZATION, "SelfSubjectRulesReview", "selfsubjectrulesreviews"
)
ACCESS_REVIEW: Final = VirtualKind(AUTHORIZATION, "SubjectAccessReview", "subjectaccessreviews")
LOCAL_ACCESS_REVIEW: Final = VirtualKind(
    AUTHORIZATION, "LocalSubjectAccessReview", "localsubjectaccessreviews", namespaced=True
)

# Those with a path of their own, in the order in which discovery lists them.
VIRTUAL_KINDS: Final = (
    BINDING,
    SELF_SUBJECT_REVIEW,
    TOKEN_REVIEW,
    SELF_ACCESS_REVIEW,
    SELF_RULES_REVIEW,
    ACCESS_REVIEW,
    LOCAL_ACCESS_REVIEW,
)
