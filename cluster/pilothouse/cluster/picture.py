"""What a release looks like at one moment: from objects and the pods' own answers to one picture."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pilothouse.client.types import TrainerStatus
from pilothouse.cluster.kinds import Object, at, name_of
from pilothouse.cluster.objects import (
    JobState,
    age_seconds,
    is_ready,
    job_problem,
    job_state,
    pod_state,
    restarts,
    seconds_since,
    why_not_ready,
)
from pilothouse.cluster.release import COMPONENTS, Release, component_of, ordered
from pilothouse.cluster.scraping import Samples
from pilothouse.cluster.trainers import current_trainer, job_name, steering_pod
from pilothouse.errors import PilothouseError, PortClosedError

WAITING = {
    "policy": "pilothouse_policy_waiting",
    "reward": "pilothouse_reward_waiting_rows",
    "reference": "pilothouse_reference_waiting",
    "feedback": "pilothouse_grpc_server_calls_waiting",
}
"""Series of what waits, by component: completions, rows, requests, calls."""
RUNNING = {
    "policy": "pilothouse_policy_running",
    "reference": "pilothouse_reference_running",
    "feedback": "pilothouse_grpc_server_calls_running",
}
_FIGURES = {
    "reward": "pilothouse_reward_mean",
    "reward_std": "pilothouse_reward_std",
    "kl": "pilothouse_kl",
    "entropy": "pilothouse_entropy",
    "loss": "pilothouse_fit_loss",
    "episodes_per_second": "pilothouse_episodes_per_second",
}


@dataclass(frozen=True, slots=True)
class Objects:
    """What the API server knows of a release."""

    pods: Sequence[Object] = ()
    workloads: Sequence[Object] = ()
    """Deployments and StatefulSets."""
    jobs: Sequence[Object] = ()
    """Of trainers."""
    lease: Object | None = None
    """By which there is one trainer at a time."""

    @property
    def loops(self) -> list[Object]:
        """Deployments of trainers."""
        return [each for each in self.workloads if component_of(each) == "trainer"]

    @property
    def trainer(self) -> Object | None:
        """What trains: a Job, or the Deployment of a loop."""
        return current_trainer(self.jobs, self.loops, self.pods, self.lease)

    @property
    def trainer_pod(self) -> Object | None:
        """The pod that steers it; None where none runs."""
        return steering_pod(self.pods, job_name(self.trainer))


@dataclass(frozen=True, slots=True)
class Answers:
    """What the pods say of themselves."""

    metrics: Mapping[str, Samples | PilothouseError] = field(default_factory=dict)
    """By pod."""
    trainer: TrainerStatus | PilothouseError | None = None
    """Of the trainer that runs; None where none was asked."""
    asked: str = ""
    """The pod that was asked for it."""


@dataclass(frozen=True, slots=True)
class ComponentView:
    """One component."""

    name: str
    ready: int
    wanted: int


@dataclass(frozen=True, slots=True)
class PodView:
    """One pod."""

    name: str
    component: str
    state: str
    ready: bool
    restarts: int
    age_seconds: float
    node: str
    weights: str
    """``epoch.version`` that a policy pod serves; empty where it is not known."""
    waiting: int | None
    running: int | None
    problem: str
    """Why it is not ready, or does not answer; empty for nothing."""


@dataclass(frozen=True, slots=True)
class TrainerView:
    """The trainer that runs, or the last one."""

    job: str
    """Empty for a loop, which is no Job."""
    state: str
    run: str
    step: int | None
    total_steps: int
    """0 where they are not known."""
    weights: str
    figures: Mapping[str, float]
    """Of the last step: reward, reward_std, kl, entropy, loss, episodes_per_second."""
    checkpoint: str
    problem: str
    """Why it failed or was paused, or why it does not answer."""


@dataclass(frozen=True, slots=True)
class LeaseView:
    """Who may train."""

    holder: str
    transitions: int
    renewed_seconds_ago: float | None


@dataclass(frozen=True, slots=True)
class Picture:
    """A release at one moment."""

    release: str
    namespace: str
    version: str
    chart: str
    components: tuple[ComponentView, ...]
    pods: tuple[PodView, ...]
    jobs: Mapping[str, JobState]
    """What the trainers' Jobs are doing, by name."""
    trainer: TrainerView | None
    lease: LeaseView | None

    @property
    def is_well(self) -> bool:
        """Whether every component has the pods that it should have, and training did not fail."""
        complete = all(each.ready >= each.wanted for each in self.components)
        return complete and (self.trainer is None or self.trainer.state != "failed")


def picture(release: Release, objects: Objects, answers: Answers, now: datetime.datetime) -> Picture:
    """Puts together what is known."""
    pods = ordered(list(objects.pods))
    return Picture(
        release=release.name,
        namespace=release.namespace,
        version=release.version,
        chart=release.chart,
        components=tuple(_components(objects.workloads)),
        pods=tuple(_pod(pod, answers.metrics.get(name_of(pod)), now) for pod in pods),
        jobs={name_of(job): job_state(job) for job in objects.jobs},
        trainer=_trainer(objects, answers),
        lease=_lease(objects.lease, now),
    )


def _components(workloads: Iterable[Object]) -> list[ComponentView]:
    places = {component: place for place, component in enumerate(COMPONENTS)}
    found = [
        ComponentView(
            component_of(each),
            int(at(each, "status", "readyReplicas") or 0),
            int(at(each, "spec", "replicas") or 0),
        )
        for each in workloads
    ]
    return sorted(found, key=lambda each: (places.get(each.name, len(places)), each.name))


def _pod(pod: Object, answer: Samples | PilothouseError | None, now: datetime.datetime) -> PodView:
    component = component_of(pod)
    figures: Samples = answer if isinstance(answer, Mapping) else {}
    ready = is_ready(pod)
    problem = "" if ready else why_not_ready(pod)
    # Before that nobody expects an answer, nor from a loop that waits, or a rank that is not the first.
    if ready and isinstance(answer, PilothouseError) and not _is_silent(component, answer):
        problem = str(answer)
    return PodView(
        name=name_of(pod),
        component=component,
        state=pod_state(pod),
        ready=ready,
        restarts=restarts(pod),
        age_seconds=age_seconds(pod, now),
        node=str(at(pod, "spec", "nodeName") or ""),
        weights=_weights(figures) if component == "policy" else "",
        waiting=_count(figures, WAITING.get(component)),
        running=_count(figures, RUNNING.get(component)),
        problem=problem,
    )


def _is_silent(component: str, answer: PilothouseError) -> bool:
    """Returns whether a trainer's pod has not opened its ports: a loop does so only while it trains."""
    return component == "trainer" and isinstance(answer, PortClosedError)


def _weights(figures: Samples) -> str:
    epoch, version = figures.get("pilothouse_policy_epoch"), figures.get("pilothouse_policy_version")
    return "" if epoch is None or version is None else f"{epoch:.0f}.{version:.0f}"


def _count(figures: Samples, series: str | None) -> int | None:
    value = None if series is None else figures.get(series)
    return None if value is None else int(value)


def _trainer(objects: Objects, answers: Answers) -> TrainerView | None:
    trainer, pod = objects.trainer, objects.trainer_pod
    if trainer is None and pod is None:
        return None
    job = job_name(trainer)
    answer = answers.metrics.get(name_of(pod)) if pod else None
    series: Samples = answer if isinstance(answer, Mapping) else {}
    reply = answers.trainer if pod and answers.asked == name_of(pod) else None
    told = reply if isinstance(reply, TrainerStatus) else None
    state = str(job_state(trainer)) if trainer and job else _loop_state(trainer)
    problem = job_problem(trainer) if trainer and job else ""
    if told is not None and state in ("running", "pending", "stopped"):
        state, problem = told.state, told.error or told.pause_reason
    elif pod is not None and state in ("running", "pending"):
        state = "running" if is_ready(pod) else "starting"
        if is_ready(pod) and isinstance(reply, PilothouseError):
            silent = _is_silent("trainer", reply)
            problem = "" if silent else str(reply)
            state = "waiting" if silent and not job else state
    step = _count(series, "pilothouse_trainer_step")
    return TrainerView(
        job=job,
        state=state,
        run=told.run if told else "",
        step=told.step if told else step,
        total_steps=told.total_steps if told else 0,
        weights=f"{told.epoch}.{told.version}" if told and told.epoch else "",
        figures={name: series[key] for name, key in _FIGURES.items() if key in series},
        checkpoint=told.checkpoint if told else "",
        problem=problem,
    )


def _loop_state(loop: Object | None) -> str:
    return "stopped" if at(loop, "spec", "replicas") == 0 else "pending"


def _lease(lease: Object | None, now: datetime.datetime) -> LeaseView | None:
    if lease is None:
        return None
    return LeaseView(
        holder=str(at(lease, "spec", "holderIdentity") or ""),
        transitions=int(at(lease, "spec", "leaseTransitions") or 0),
        renewed_seconds_ago=seconds_since(at(lease, "spec", "renewTime"), now),
    )
