"""What Kubernetes objects say of themselves, in few words."""

import datetime
from typing import Literal

from pilothouse.cluster.kinds import Object, at, labels_of, name_of

JobState = Literal["pending", "running", "stopped", "finished", "failed"]

_JOB_LABELS = ("batch.kubernetes.io/job-name", "job-name")
"""Today's, and the one that older clusters have too."""


def pod_state(pod: Object) -> str:
    """Returns a pod's state as `kubectl get pods` words it, with ``Ready`` for one that is."""
    if at(pod, "metadata", "deletionTimestamp"):
        return "Terminating"
    for group, prefix in (("initContainerStatuses", "Init:"), ("containerStatuses", "")):
        for status in at(pod, "status", group) or ():
            waiting = at(status, "state", "waiting", "reason")
            ended = at(status, "state", "terminated")
            if waiting and waiting not in ("PodInitializing", "ContainerCreating"):
                return f"{prefix}{waiting}"
            if ended and ended.get("exitCode"):
                return f"{prefix}{ended.get('reason') or 'Error'}"
    if is_ready(pod):
        return "Ready"
    return str(at(pod, "status", "reason") or at(pod, "status", "phase") or "Pending")


def is_ready(pod: Object) -> bool:
    """Returns whether a pod takes calls."""
    return _condition(pod, "Ready") and at(pod, "metadata", "deletionTimestamp") is None


def is_running(pod: Object) -> bool:
    """Returns whether a pod's processes run, ready or not."""
    return str(at(pod, "status", "phase")) == "Running"


def why_not_ready(pod: Object) -> str:
    """Returns what Kubernetes says about a pod that is not ready; empty where it says nothing."""
    for group in ("initContainerStatuses", "containerStatuses"):
        for status in at(pod, "status", group) or ():
            for state in ("waiting", "terminated"):
                if message := at(status, "state", state, "message"):
                    return _one_line(message)
    for condition in at(pod, "status", "conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _one_line(condition.get("message") or "")
    return _one_line(at(pod, "status", "message") or "")


def ports_of(pod: Object) -> dict[str, int]:
    """Returns the numbers of a pod's ports by their names."""
    return {
        str(port["name"]): int(port["containerPort"])
        for container in at(pod, "spec", "containers") or ()
        for port in container.get("ports") or ()
        if port.get("name")
    }


def job_of(pod: Object) -> str:
    """Returns the name of the Job that made a pod; empty for none."""
    labels = labels_of(pod)
    return next((labels[label] for label in _JOB_LABELS if label in labels), "")


def restarts(pod: Object) -> int:
    """Returns how often a pod's containers were started again."""
    return sum(int(each.get("restartCount") or 0) for each in at(pod, "status", "containerStatuses") or ())


def job_state(job: Object) -> JobState:
    """Returns what a Job is doing."""
    if _condition(job, "Complete"):
        return "finished"
    if _condition(job, "Failed"):
        return "failed"
    if at(job, "spec", "parallelism") == 0 or at(job, "spec", "suspend"):
        return "stopped"
    return "running" if at(job, "status", "active") else "pending"


def is_over(job: Object) -> bool:
    """Returns whether a Job has come to its end, good or bad."""
    return job_state(job) in ("finished", "failed")


def job_problem(job: Object) -> str:
    """Returns why a Job failed; empty where it did not."""
    for condition in at(job, "status", "conditions") or ():
        if condition.get("type") == "Failed" and condition.get("status") == "True":
            parts = (condition.get("reason"), condition.get("message"))
            return _one_line(": ".join(part for part in parts if part))
    return ""


def newest(found: list[Object]) -> list[Object]:
    """Sorts objects by their age, the newest first."""
    return sorted(
        found, key=lambda each: (str(at(each, "metadata", "creationTimestamp")), name_of(each)), reverse=True
    )


def age_seconds(found: Object, now: datetime.datetime) -> float:
    """Returns for how long an object has been there."""
    return seconds_since(at(found, "metadata", "creationTimestamp"), now) or 0.0


def seconds_since(text: str | None, now: datetime.datetime) -> float | None:
    """Returns the seconds since a time as the API server writes it; None for none."""
    if not text:
        return None
    return max((now - datetime.datetime.fromisoformat(text)).total_seconds(), 0.0)


def _condition(found: Object, kind: str) -> bool:
    conditions = at(found, "status", "conditions") or ()
    return any(at(each, "type") == kind and at(each, "status") == "True" for each in conditions)


def _one_line(text: str) -> str:
    return " ".join(text.split())
