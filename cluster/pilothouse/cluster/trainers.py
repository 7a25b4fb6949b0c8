"""Which of a release's trainers is meant, and the pod that steers it."""

from collections.abc import Iterable, Sequence

from pilothouse.cluster.kinds import JOB, Object, at, name_of
from pilothouse.cluster.objects import is_over, is_ready, is_running, job_of, job_state, newest, ports_of
from pilothouse.cluster.release import component_of

_LONGEST_HOSTNAME = 63


def current_trainer(
    jobs: Iterable[Object], loops: Iterable[Object], pods: Iterable[Object], lease: Object | None
) -> Object | None:
    """Returns what trains: who holds the lease, else a Job that goes on, the loop, a stopped Job, the newest.

    Args:
        jobs: Of trainers.
        loops: Deployments of trainers.
        pods: Of the release.
        lease: By which one trains at a time; None where there is none.
    """
    found = newest(list(jobs))
    deployments = list(loops)
    if (pod := lease_pod(pods, lease)) is not None:
        job = job_of(pod)
        holding = [each for each in found if name_of(each) == job] if job else deployments
        if holding:
            return holding[0]
    going = [job for job in found if job_state(job) in ("running", "pending")]
    stopped = [job for job in found if not is_over(job)]
    return next(iter([*going, *deployments, *stopped, *found]), None)


def steering_pod(pods: Iterable[Object], job: str) -> Object | None:
    """Returns the pod that steers a trainer that runs: of several ranks the first.

    Args:
        pods: Of the release.
        job: The trainer's Job; empty for a loop, whose pods no Job has made.
    """
    found = [pod for pod in _trainer_pods(pods) if job_of(pod) == job]
    found.sort(key=lambda pod: (not is_ready(pod), _rank(pod)))
    return next(iter(found), None)


def pushing_pods(pods: Sequence[Object], lease: Object | None) -> list[Object]:
    """Returns the pods that may push weights: that of the lease's holder, else one of each trainer.

    An evaluation, which takes no calls, pushes nothing.
    """
    holder = lease_pod(pods, lease)
    jobs = {job_of(holder)} if holder else {job_of(pod) for pod in _trainer_pods(pods)}
    found = (steering_pod(pods, job) for job in sorted(jobs))
    return [pod for pod in found if pod is not None and "grpc" in ports_of(pod)]


def lease_pod(pods: Iterable[Object], lease: Object | None) -> Object | None:
    """Returns the pod whose process holds the lease: ``<hostname>_<hex>``, see `pilothouse.cluster.lease`."""
    host = str(at(lease, "spec", "holderIdentity") or "").rpartition("_")[0]
    return next((pod for pod in _trainer_pods(pods) if _hostname(pod) == host), None)


def job_name(trainer: Object | None) -> str:
    """Returns the name of what trains if it is a Job; empty for a loop, or for nothing."""
    return name_of(trainer) if trainer is not None and trainer.get("kind") == JOB.kind else ""


def _trainer_pods(pods: Iterable[Object]) -> list[Object]:
    return [pod for pod in pods if component_of(pod) == "trainer" and is_running(pod)]


def _hostname(pod: Object) -> str:
    """Returns what the kubelet names the host: the ranks of a Job have names of their own."""
    return str(at(pod, "spec", "hostname") or name_of(pod))[:_LONGEST_HOSTNAME].rstrip("-.")


def _rank(pod: Object) -> int:
    return int(at(pod, "metadata", "annotations", "batch.kubernetes.io/job-completion-index") or 0)
