"""Whether a cluster has what Pilothouse needs, before it is installed and after."""

import importlib.metadata
import re
from collections.abc import Callable, Iterator
from contextlib import suppress

from pilothouse.cli.doctor.findings import Finding, Level, ok
from pilothouse.cluster import capacity
from pilothouse.cluster.api import Api
from pilothouse.cluster.identity import client_secret
from pilothouse.cluster.kinds import (
    AUTOSCALER,
    CLAIM,
    DEPLOYMENT,
    JOB,
    NAMESPACE,
    SECRET,
    STATEFUL_SET,
    STORAGE_CLASS,
    Object,
    at,
    labels_of,
    name_of,
)
from pilothouse.cluster.objects import is_over, pod_state, why_not_ready
from pilothouse.cluster.release import Release, find_release, pods_of
from pilothouse.cluster.rights import INSTALL, OPERATE, missing
from pilothouse.errors import NotFoundError, PermissionDeniedError, PilothouseError

_OLDEST = (1, 20)
_LEVEL = "pod-security.kubernetes.io/enforce"
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_OPTIONAL = {
    "cert-manager.io": ("cert-manager", "tls.mode=certManager"),
    "gateway.networking.k8s.io": ("Gateway API", "gateway.enabled"),
    "keda.sh": ("KEDA", "<component>.keda.enabled"),
    "monitoring.coreos.com": ("Prometheus operator", "ServiceMonitors and PrometheusRules"),
}
"""API group of what may be there: its name, and what needs it."""
_METRICS = "metrics.k8s.io"
_ASK = "ask an administrator to run this command"


def examine(api: Api, name: str | None) -> Iterator[Finding]:
    """Yields everything that was looked at.

    Args:
        api: The cluster.
        name: Of the release; None for the only one, if there is one yet.

    Raises:
        UnavailableError: The API server cannot be reached; nothing else can be said then.
    """
    yield check_version(api)
    yield from _told("namespace", lambda: check_namespace(api))
    release: Release | None = None
    refused: PermissionDeniedError | None = None
    try:
        release = find_release(api, name)
    except NotFoundError:
        pass
    except PermissionDeniedError as error:
        refused = error
    yield from _told("rights to install", lambda: [check_rights(api, "install", release)])
    yield from _told("rights to operate", lambda: [check_rights(api, "operate", release)])
    if refused is not None:
        yield Finding("release", "warning", f"not checked: {refused}", _ASK)
    elif release is None:
        yield ok("release", f"none in namespace {api.namespace} yet")
    else:
        yield check_release(release)
    workloads = _workloads(api, release)
    yield from _told("nodes", lambda: capacity.check_nodes(api, workloads))
    yield from _told("volumes", lambda: check_volumes(api, release))
    yield from _told("extensions", lambda: check_extensions(api, release))
    if release is not None:
        found = release
        yield from _told("images", lambda: check_images(api, found, workloads))


def check_version(api: Api) -> Finding:
    """Looks whether the API server is new enough."""
    found = api.read("/version")
    numbers = tuple(int(re.sub(r"\D.*", "", str(found[part])) or 0) for part in ("major", "minor"))
    told = f"Kubernetes {found['gitVersion']} at {api.server}"
    if numbers < _OLDEST:
        return Finding("API server", "error", told, "use a cluster of Kubernetes 1.20 or newer")
    return ok("API server", told)


def check_namespace(api: Api) -> Iterator[Finding]:
    """Looks whether the namespace is there, and which pods it takes."""
    try:
        found = api.get(NAMESPACE, api.namespace)
    except NotFoundError:
        mend = f"kubectl create namespace {api.namespace}, or helm install --create-namespace"
        yield Finding("namespace", "error", f"{api.namespace} is not there", mend)
        return
    level = labels_of(found).get(_LEVEL, "none")
    yield ok("namespace", f"{api.namespace}; pod security level {level}; all pods keep to 'restricted'")


def check_rights(api: Api, what: str, release: Release | None) -> Finding:
    """Looks which rights this account lacks, to ``install`` or to ``operate``."""
    if what == "install":
        lacking = missing(api, INSTALL)
    else:
        lacking = missing(api, OPERATE, {"secrets": client_secret(api, release)} if release else None)
    check = f"rights to {what}"
    if not lacking:
        return ok(check, f"all, in namespace {api.namespace}")
    told = "; ".join(f"{each.verb} {each.resource}" for each in lacking)
    rules = ", ".join(each.rule for each in lacking)
    level: Level = "error" if what == "operate" else "warning"
    return Finding(check, level, f"missing: {told}", f"let a Role in {api.namespace} have: {rules}")


def check_release(release: Release) -> Finding:
    """Looks whether this client is of the release's version."""
    own = importlib.metadata.version("pilothouse")
    told = f"{release.name}, Pilothouse {release.version or 'of unknown version'}, {release.chart}"
    if release.version and release.version != own:
        mend = f"pip install pilothouse=={release.version}, or helm upgrade"
        return Finding("release", "warning", f"{told}; this client is {own}", mend)
    return ok("release", told)


def check_volumes(api: Api, release: Release | None) -> Iterator[Finding]:
    """Looks whether claims are bound, and before there are any, whether they can be."""
    claims = [] if release is None else api.list(CLAIM, release.selector()).items
    for claim in claims:
        phase = str(at(claim, "status", "phase") or "Pending")
        size = at(claim, "spec", "resources", "requests", "storage")
        if phase == "Bound":
            yield ok(f"claim {name_of(claim)}", f"bound, {size}")
        else:
            mend = "set persistence.<volume>.storageClassName, or make a volume that fits by hand"
            yield Finding(f"claim {name_of(claim)}", "warning", f"{phase}, {size}", mend)
    classes = api.list(STORAGE_CLASS).items
    default = [each for each in classes if at(each, "metadata", "annotations", _DEFAULT_CLASS) == "true"]
    if default:
        yield ok("storage class", f"default {name_of(default[0])}")
    elif not claims:
        others = ", ".join(map(name_of, classes)) or "none"
        mend = "set persistence.<volume>.storageClassName or existingClaim, or make volumes by hand"
        yield Finding("storage class", "warning", f"no default; there are: {others}", mend)


def check_extensions(api: Api, release: Release | None) -> Iterator[Finding]:
    """Looks which APIs are there that some settings need."""
    groups = {str(group["name"]) for group in api.read("/apis")["groups"]}
    for group, (name, needed_by) in _OPTIONAL.items():
        there = "installed" if group in groups else "not installed"
        yield ok(name, f"{there}; needed by {needed_by}")
    autoscalers = [] if release is None else api.list(AUTOSCALER, release.selector()).items
    if _METRICS in groups or not autoscalers:
        there = "there" if _METRICS in groups else "not there"
        yield ok("metrics API", f"{there}; needed by autoscaling on CPU")
    else:
        names = ", ".join(map(name_of, autoscalers))
        yield Finding("metrics API", "error", f"not there, but {names} scale on it", "install metrics-server")


def check_images(api: Api, release: Release, workloads: list[Object]) -> Iterator[Finding]:
    """Looks whether images could be pulled, and the Secrets for that are there."""
    wanted = {
        str(each["name"])
        for workload in workloads
        for each in at(workload, "spec", "template", "spec", "imagePullSecrets") or ()
    }
    for name in sorted(wanted):
        try:
            api.get(SECRET, name)
            yield ok(f"pull secret {name}", "there")
        except NotFoundError:
            mend = f"kubectl --namespace {api.namespace} create secret docker-registry {name} ..."
            yield Finding(f"pull secret {name}", "error", "not there", mend)
    failing = [pod for pod in pods_of(api, release) if "ImagePull" in pod_state(pod)]
    for pod in failing:
        mend = "check image.registry, the tag, and imagePullSecrets"
        yield Finding(f"image of {name_of(pod)}", "error", why_not_ready(pod) or pod_state(pod), mend)
    if not failing and not wanted:
        yield ok("images", "no pod lacks one")


def _workloads(api: Api, release: Release | None) -> list[Object]:
    if release is None:
        return []
    found: list[Object] = []
    for kind in (DEPLOYMENT, STATEFUL_SET, JOB):
        with suppress(PermissionDeniedError):
            found += api.list(kind, release.selector()).items
    return [each for each in found if not (each["kind"] == JOB.kind and is_over(each))]


def _told(check: str, look: Callable[[], Iterator[Finding] | list[Finding]]) -> Iterator[Finding]:
    """Yields what was found; what may not be looked at is a warning."""
    try:
        yield from look()
    except PermissionDeniedError as error:
        yield Finding(check, "warning", f"not checked: {error}", _ASK)
    except PilothouseError as error:
        yield Finding(check, "error", str(error), "try again")
