"""The admission policy for ``spec.cluster`` of a Task, which has the controller make a TaskCluster.

Without it, users who may create Tasks but not TaskClusters could have TaskClusters made for them.
A ValidatingAdmissionPolicy is asked by the API server itself, which knows who the requester is:
https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
"""

from __future__ import annotations

from typing import Any, Final

from taskctl.constants import GROUP
from taskctl.install.rights import PART_LABELS

Manifest = dict[str, Any]
NAME: Final = "taskctl-run-clusters"
_API: Final = "admissionregistration.k8s.io/v1"
_NEW: Final = "has(object.spec.cluster) && (oldObject == null || !has(oldObject.spec.cluster))"
_MAY: Final = (
    f"authorizer.group('{GROUP}').resource('taskclusters').namespace(request.namespace)"
    ".check('create').allowed()"
)
_MESSAGE: Final = (
    "spec.cluster makes a TaskCluster, so it needs the right to create taskclusters.taskctl.dev in "
    "this namespace; name a TaskCluster that exists instead (spec.clusterName)"
)


def admission_policy() -> list[Manifest]:
    """Return the policy and its binding, for all namespaces."""
    metadata = {"name": NAME, "labels": dict(PART_LABELS)}
    rule = {
        "apiGroups": [GROUP],
        "apiVersions": ["*"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["tasks"],
    }
    policy = {
        "apiVersion": _API,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": metadata,
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [rule]},
            # Only who brings it in needs the right, not who changes another field afterwards.
            "matchConditions": [{"name": "brings-spec-cluster", "expression": _NEW}],
            "validations": [{"expression": _MAY, "message": _MESSAGE, "reason": "Forbidden"}],
        },
    }
    binding = {
        "apiVersion": _API,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": dict(metadata),
        "spec": {"policyName": NAME, "validationActions": ["Deny"]},
    }
    return [policy, binding]
