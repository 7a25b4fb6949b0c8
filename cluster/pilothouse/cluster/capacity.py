"""Whether the nodes have room for the pods."""

from collections.abc import Iterable, Iterator
from decimal import Decimal

from kubernetes.utils import parse_quantity

from pilothouse.cli.doctor.findings import Finding, ok
from pilothouse.cluster.api import Api
from pilothouse.cluster.kinds import NODE, Object, at, name_of

Amounts = dict[str, Decimal]
"""Cores, bytes, devices, by resource name."""

_ALWAYS = ("cpu", "memory")
_GIB = 2**30


def check_nodes(api: Api, workloads: Iterable[Object]) -> Iterator[Finding]:
    """Compares what the nodes have with what the pods ask for.

    Args:
        api: The cluster.
        workloads: Deployments, StatefulSets and Jobs.
    """
    nodes = {name_of(node): _allocatable(node) for node in api.list(NODE).items if _takes_pods(node)}
    if not nodes:
        yield Finding("nodes", "error", "none is Ready and takes pods", "add a node, or uncordon one")
        return
    total = _sum(nodes.values())
    gpus = {name: count for name, count in total.items() if _is_gpu(name) and count}
    told = f"{len(nodes)} Ready, {total['cpu']:.0f} cores, {total['memory'] / _GIB:.0f} GiB"
    yield ok("nodes", told)
    found = ", ".join(f"{count:.0f} {name}" for name, count in gpus.items())
    yield ok("GPUs", found or "none; all components run on CPU")
    for workload in workloads:
        yield _fits(workload, nodes)


def requested(template: Object) -> Amounts:
    """Returns what one pod asks for: its containers together, or an init container that needs more."""
    containers, first = (at(template, "spec", key) or () for key in ("containers", "initContainers"))
    total = _sum(map(_of_container, containers))
    for container in first:
        for name, amount in _of_container(container).items():
            total[name] = max(total.get(name, Decimal(0)), amount)
    return total


def _fits(workload: Object, nodes: dict[str, Amounts]) -> Finding:
    wanted = requested(at(workload, "spec", "template") or {})
    check = f"room for {name_of(workload)}"
    told = ", ".join(_amount(name, amount) for name, amount in wanted.items()) or "asks for nothing"
    lacking = [
        {name for name, amount in wanted.items() if node.get(name, Decimal(0)) < amount}
        for node in nodes.values()
    ]
    if not all(lacking):
        return ok(check, f"{told} a pod")
    short = sorted(set.intersection(*lacking))
    why = f"no node has so much {', '.join(short)}" if short else "no node has all of it"
    return Finding(check, "error", f"{told} a pod; {why}", "lower resources, or add a node that has it")


def _of_container(container: Object) -> Amounts:
    limits, requests = (at(container, "resources", key) or {} for key in ("limits", "requests"))
    return {name: Decimal(parse_quantity(amount)) for name, amount in {**limits, **requests}.items()}


def _allocatable(node: Object) -> Amounts:
    found = at(node, "status", "allocatable") or {}
    return {
        name: Decimal(parse_quantity(amount))
        for name, amount in found.items()
        if name in _ALWAYS or "/" in name or name == "ephemeral-storage"
    }


def _takes_pods(node: Object) -> bool:
    conditions = at(node, "status", "conditions") or ()
    ready = any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)
    return ready and not at(node, "spec", "unschedulable")


def _is_gpu(name: str) -> bool:
    return "gpu" in name or name.startswith(("nvidia.com/mig-", "amd.com/", "gpu."))


def _sum(amounts: Iterable[Amounts]) -> Amounts:
    total = {name: Decimal(0) for name in _ALWAYS}
    for each in amounts:
        for name, amount in each.items():
            total[name] = total.get(name, Decimal(0)) + amount
    return total


def _amount(name: str, amount: Decimal) -> str:
    if name in ("memory", "ephemeral-storage"):
        return f"{amount / _GIB:.3g} GiB {name}"
    return f"{amount.normalize():f} {name}"
