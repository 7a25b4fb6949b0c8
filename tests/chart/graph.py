"""Who may connect to whom, as a cluster would find out from rendered NetworkPolicies and pods."""

from collections.abc import Iterator
from typing import NamedTuple

from .rendering import NAMESPACE, Manifest, Rendered, component_of

OUTSIDE = {
    "generate-client": ({"pilothouse.io/generate-client": "true"}, NAMESPACE),
    "score-client": ({"pilothouse.io/score-client": "true"}, NAMESPACE),
    "operator": ({"pilothouse.io/operator": "true"}, NAMESPACE),
    "stranger": ({"app": "stranger"}, NAMESPACE),
    "foreigner": ({"app": "foreigner", "pilothouse.io/operator": "true"}, "elsewhere"),
}
"""Pods that are not of the release: labels and namespace."""
ANY_PORT = 0


class Edge(NamedTuple):
    """A connection that is allowed."""

    source: str
    target: str
    port: int
    """`ANY_PORT` where no port is named."""


def pod_labels(rendered: Rendered) -> dict[str, dict[str, str]]:
    """Returns the labels of the release's pods, hooks included, by component."""
    found = {}
    for _, pod in rendered.pods():
        labels = pod["metadata"]["labels"]
        found[component_of(pod)] = dict(labels)
    return found


def ports_of(rendered: Rendered) -> dict[str, set[int]]:
    """Returns the ports on which each component listens."""
    found: dict[str, set[int]] = {}
    for _, pod in rendered.pods():
        for container in pod["spec"]["containers"]:
            numbers = {port["containerPort"] for port in container.get("ports", ())}
            found.setdefault(component_of(pod), set()).update(numbers)
    return found


def edges(rendered: Rendered) -> set[Edge]:
    """Returns every connection between pods that policies allow at both ends.

    A pod outside of the release has no policy at its own end.
    """
    inside = pod_labels(rendered)
    everyone = {name: (labels, NAMESPACE) for name, labels in inside.items()} | OUTSIDE
    allowed = set()
    for source, (labels, namespace) in everyone.items():
        for target, target_labels in inside.items():
            ways_in = set(_ports(rendered, target_labels, "ingress", (labels, namespace)))
            if source in inside:
                ways_out = set(_ports(rendered, labels, "egress", (target_labels, NAMESPACE)))
                both = _both(ways_in, ways_out)
            else:
                both = ways_in
            allowed |= {Edge(source, target, port) for port in both}
    return allowed


def _both(ways_in: set[int], ways_out: set[int]) -> set[int]:
    """Returns the ports that both ends allow; `ANY_PORT` alone where that is all of them."""
    if ANY_PORT in ways_in and ANY_PORT in ways_out:
        return {ANY_PORT}
    if ANY_PORT in ways_in:
        return ways_out
    return ways_in if ANY_PORT in ways_out else ways_in & ways_out


def exits(rendered: Rendered, component: str) -> set[int]:
    """Returns the ports to which a component may connect anywhere in the world."""
    labels = pod_labels(rendered)[component]
    nowhere = ({"app": "nowhere"}, "elsewhere")
    return {
        port
        for policy in _policies(rendered, labels)
        for rule in policy["spec"].get("egress", ())
        if "to" not in rule or any("ipBlock" in peer for peer in rule["to"])
        for port in _numbers(rule)
    } | set(_ports(rendered, labels, "egress", nowhere))


def _ports(
    rendered: Rendered, labels: dict[str, str], way: str, peer: tuple[dict[str, str], str]
) -> Iterator[int]:
    """Yields the ports that the policies of a pod allow for a peer."""
    for policy in _policies(rendered, labels):
        for rule in policy["spec"].get(way, ()):
            peers = rule.get("from" if way == "ingress" else "to")
            if peers is None or any(_is(one, *peer) for one in peers):
                yield from _numbers(rule)


def _policies(rendered: Rendered, labels: dict[str, str]) -> list[Manifest]:
    found = [
        policy
        for policy in rendered.all("NetworkPolicy")
        if policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    ]
    assert found, f"no policy selects {labels}: everything is allowed"
    assert all(set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"} for policy in found)
    return found


def _numbers(rule: Manifest) -> list[int]:
    return (
        [port["port"] for port in rule["ports"] if port["protocol"] == "TCP"]
        if "ports" in rule
        else [ANY_PORT]
    )


def _is(peer: Manifest, labels: dict[str, str], namespace: str) -> bool:
    if "ipBlock" in peer:
        return False
    if "namespaceSelector" in peer:
        if peer["namespaceSelector"]:
            return False  # these tests' namespaces have no labels
    elif namespace != NAMESPACE:
        return False
    wanted = peer.get("podSelector", {}).get("matchLabels", {})
    return bool(wanted.items() <= labels.items())
