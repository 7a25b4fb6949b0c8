"""Which rights installing and operating need, and which of them this account has."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from pilothouse.cluster.api import Api
from pilothouse.cluster.failures import Asked
from pilothouse.cluster.kinds import ACCESS_REVIEW, at

_AT_ONCE = 8
_LOOK = ("get", "list", "watch")
_MAKE = ("get", "list", "create", "update", "patch", "delete")

OPERATE: Sequence[tuple[str, str, Sequence[str]]] = (
    ("", "configmaps", ("get", "list", "create", "patch", "delete")),
    ("", "pods", _LOOK),
    ("", "pods/log", ("get",)),
    ("", "pods/portforward", ("get", "create")),
    ("", "secrets", ("get",)),
    ("", "events", ("list",)),
    ("", "services", ("list",)),
    ("", "persistentvolumeclaims", ("list",)),
    ("apps", "deployments", _LOOK),
    ("apps", "statefulsets", _LOOK),
    ("apps", "deployments/scale", ("get", "update")),
    ("apps", "statefulsets/scale", ("get", "update")),
    ("batch", "jobs", ("get", "list", "watch", "create", "update")),
    ("autoscaling", "horizontalpodautoscalers", ("list",)),
    ("coordination.k8s.io", "leases", _LOOK),
)
"""(API group, resource, verbs) that the commands use; as a Role in docs/kubernetes-cli.md."""

INSTALL: Sequence[tuple[str, str, Sequence[str]]] = (
    *(("", name, _MAKE) for name in ("configmaps", "secrets", "services", "serviceaccounts")),
    ("", "persistentvolumeclaims", _MAKE),
    *(("apps", name, _MAKE) for name in ("deployments", "statefulsets")),
    ("batch", "jobs", _MAKE),
    ("coordination.k8s.io", "leases", _MAKE),
    ("networking.k8s.io", "networkpolicies", _MAKE),
    ("policy", "poddisruptionbudgets", _MAKE),
    *(("rbac.authorization.k8s.io", name, _MAKE) for name in ("roles", "rolebindings")),
)
"""What `helm install` makes."""


def missing(
    api: Api, wanted: Iterable[tuple[str, str, Sequence[str]]], names: Mapping[str, str] | None = None
) -> list[Asked]:
    """Returns the rights that this account lacks in the namespace, all verbs of a resource as one.

    Args:
        api: The cluster.
        wanted: (API group, resource, verbs).
        names: The one object that is needed, by resource; others are needed as a whole.
    """
    one = names or {}
    flat = [(group, resource, verb) for group, resource, verbs in wanted for verb in verbs]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        allowed = pool.map(lambda each: _may(api, one.get(each[1], ""), *each), flat)
    lacking: dict[tuple[str, str], list[str]] = {}
    for (group, resource, verb), given in zip(flat, allowed, strict=True):
        if not given:
            lacking.setdefault((group, resource), []).append(verb)
    return [
        Asked(", ".join(verbs), resource, group, namespace=api.namespace)
        for (group, resource), verbs in lacking.items()
    ]


def _may(api: Api, name: str, group: str, resource: str, verb: str) -> bool:
    kind, _, part = resource.partition("/")
    attributes = {"namespace": api.namespace, "verb": verb, "group": group, "resource": kind, "name": name}
    if part:
        attributes["subresource"] = part
    answer = api.create(ACCESS_REVIEW, {"spec": {"resourceAttributes": attributes}})
    return bool(at(answer, "status", "allowed"))
