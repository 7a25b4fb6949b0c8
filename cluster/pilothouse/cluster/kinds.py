"""The kinds of Kubernetes objects that are dealt with."""

from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
"""An object as the API server sends it, so that no field is lost that this client does not know."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind in one version of its API."""

    kind: str
    """As in manifests: ``Pod``."""
    plural: str
    """As in addresses and roles: ``pods``."""
    group: str = ""
    """API group; empty for the core's."""
    version: str = "v1"
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As in manifests: ``apps/v1``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str, name: str = "", part: str = "") -> str:
        """Returns the address of the collection, of an object, or of a part of one such as ``scale``."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        place = f"/namespaces/{namespace}" if self.namespaced else ""
        tail = "".join(f"/{word}" for word in (self.plural, name, part) if word)
        return f"{root}{place}{tail}"


POD = Kind("Pod", "pods")
SERVICE = Kind("Service", "services")
CONFIG_MAP = Kind("ConfigMap", "configmaps")
SECRET = Kind("Secret", "secrets")
EVENT = Kind("Event", "events")
CLAIM = Kind("PersistentVolumeClaim", "persistentvolumeclaims")
SERVICE_ACCOUNT = Kind("ServiceAccount", "serviceaccounts")
DEPLOYMENT = Kind("Deployment", "deployments", "apps")
STATEFUL_SET = Kind("StatefulSet", "statefulsets", "apps")
JOB = Kind("Job", "jobs", "batch")
AUTOSCALER = Kind("HorizontalPodAutoscaler", "horizontalpodautoscalers", "autoscaling")
"""In the one version that every cluster since 1.20 has."""
LEASE = Kind("Lease", "leases", "coordination.k8s.io")
ENDPOINTS = Kind("Endpoints", "endpoints")
ENDPOINT_SLICE = Kind("EndpointSlice", "endpointslices", "discovery.k8s.io")
"""From 1.21 on."""
ROLE = Kind("Role", "roles", "rbac.authorization.k8s.io")
ROLE_BINDING = Kind("RoleBinding", "rolebindings", "rbac.authorization.k8s.io")
NETWORK_POLICY = Kind("NetworkPolicy", "networkpolicies", "networking.k8s.io")
NAMESPACE = Kind("Namespace", "namespaces", namespaced=False)
NODE = Kind("Node", "nodes", namespaced=False)
STORAGE_CLASS = Kind("StorageClass", "storageclasses", "storage.k8s.io", namespaced=False)
ACCESS_REVIEW = Kind(
    "SelfSubjectAccessReview", "selfsubjectaccessreviews", "authorization.k8s.io", namespaced=False
)


def name_of(found: Object) -> str:
    """Returns an object's name."""
    return str(found["metadata"]["name"])


def labels_of(found: Object) -> dict[str, str]:
    """Returns an object's labels."""
    return dict(found["metadata"].get("labels") or {})


def at(found: Any, *path: str | int) -> Any:
    """Returns what stands at ``path`` in an object; None where a part of the way is missing."""
    for step in path:
        if isinstance(step, int):
            if not isinstance(found, list) or not -len(found) <= step < len(found):
                return None
        elif not isinstance(found, dict) or step not in found:
            return None
        found = found[step]
    return found
