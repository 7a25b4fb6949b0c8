"""Pauses, resumes and stops the trainer."""

from dataclasses import dataclass

from pilothouse.cluster.api import Api
from pilothouse.cluster.identity import calling_trainer
from pilothouse.cluster.kinds import DEPLOYMENT, JOB, Kind, Object, at, name_of
from pilothouse.cluster.looking import objects_of
from pilothouse.cluster.objects import is_over, ports_of
from pilothouse.cluster.release import Release
from pilothouse.cluster.trainers import job_name, steering_pod
from pilothouse.errors import NotFoundError, PilothouseError, PreconditionError, UnavailableError
from pilothouse.tls import Tls

COUNT_BEFORE = "pilothouse.io/parallelism"
"""Annotation of what was stopped: how many pods it had."""


@dataclass(frozen=True, slots=True)
class Training:
    """What trains in a release."""

    kind: Kind
    """Job, or Deployment of a loop."""
    name: str
    wanted: int
    """Pods that it is to have; 0 where it was stopped."""
    count_before: int
    """Pods that it had before it was stopped, or is to have once it is not suspended any more."""
    is_over: bool
    """A Job that has come to its end."""
    pod: Object | None
    """The one that steers it; None where none runs."""


def training_of(api: Api, release: Release, job: str | None = None) -> Training:
    """Returns what trains.

    Args:
        api: The cluster.
        release: Where.
        job: One of several Jobs; None for what trains now, see `pilothouse.cluster.trainers`.

    Raises:
        NotFoundError: Nothing does.
    """
    objects = objects_of(api, release)
    found = objects.trainer
    if job is not None:
        found = next((each for each in objects.jobs if name_of(each) == job), None)
        if found is None:
            raise NotFoundError(
                f"no job '{job}' of a trainer in release {release.name}; there are: "
                f"{', '.join(map(name_of, objects.jobs)) or 'none'}"
            )
    if found is None:
        raise NotFoundError(
            f"release {release.name} has no trainer; give it a job with `pilothouse cluster submit`"
        )
    pod = steering_pod(objects.pods, job_name(found))
    if job_name(found):
        return _training(JOB, found, "parallelism", pod, is_over=is_over(found))
    return _training(DEPLOYMENT, found, "replicas", pod, is_over=False)


def running_trainer(training: Training) -> Object:
    """Returns the pod of a trainer that can be called.

    Raises:
        PreconditionError: It was stopped, has come to its end, or takes no calls.
        UnavailableError: It has no pod that runs yet.
    """
    if training.is_over:
        raise PreconditionError(f"job {training.name} is over; see `pilothouse cluster status`")
    if not training.wanted:
        raise PreconditionError(f"{training.name} is stopped; `pilothouse cluster resume` goes on with it")
    if training.pod is None:
        raise UnavailableError(
            f"{training.name} has no pod that runs; `pilothouse cluster status` says why, or wait"
        )
    if "grpc" not in ports_of(training.pod):
        raise PreconditionError(f"{training.name} is an evaluation, which cannot be held; `stop` ends it")
    return training.pod


def pause(api: Api, release: Release, training: Training, tls: Tls | None) -> None:
    """Holds the trainer before its next step; its pod and its memory stay."""
    with calling_trainer(api, release, running_trainer(training), tls) as client:
        client.pause()


def unpause(api: Api, release: Release, training: Training, tls: Tls | None) -> None:
    """Lets a held trainer go on."""
    with calling_trainer(api, release, running_trainer(training), tls) as client:
        client.resume()


def stop(api: Api, release: Release, training: Training, tls: Tls | PilothouseError | None) -> str:
    """Takes the trainer's pods away until `start`: they finish their step and write a checkpoint.

    The wish comes first, so that Kubernetes puts no other pod in the place of one that ends; then the
    trainer is asked for its last checkpoint.

    Returns:
        The checkpoint's folder, relative to the run's; empty where the trainer did not say.
    """
    if training.is_over:
        raise PreconditionError(f"job {training.name} is over; there is nothing to stop")
    _set_count(api, training, 0)
    if training.pod is None or isinstance(tls, PilothouseError):
        return ""
    try:
        with calling_trainer(api, release, training.pod, tls) as client:
            return client.stop()
    except PilothouseError:
        return ""  # its pod was told by Kubernetes already, and may be gone


def start(api: Api, training: Training) -> None:
    """Gives a stopped trainer its pods again; it goes on from its checkpoint."""
    _set_count(api, training, training.count_before)


def _set_count(api: Api, training: Training, count: int) -> None:
    def edit_loop(found: Object) -> None:
        found["spec"]["replicas"] = count

    def edit_job(found: Object) -> None:
        if not count and (before := at(found, "spec", "parallelism")):
            found["metadata"].setdefault("annotations", {})[COUNT_BEFORE] = str(before)
        found["spec"]["parallelism"] = count
        if count and at(found, "spec", "suspend"):  # by kubectl
            found["spec"]["suspend"] = False

    if training.kind is JOB:
        api.change(JOB, training.name, edit_job)
    else:
        api.change(DEPLOYMENT, training.name, edit_loop, "scale")


def _training(kind: Kind, found: Object, field: str, pod: Object | None, *, is_over: bool) -> Training:
    wanted = at(found, "spec", field)
    count = 1 if wanted is None else int(wanted)
    # Who stops with kubectl leaves no note; of several ranks each one completes once.
    noted = at(found, "metadata", "annotations", COUNT_BEFORE) or at(found, "spec", "completions")
    before = count or int(noted or 1)
    return Training(kind, name_of(found), 0 if at(found, "spec", "suspend") else count, before, is_over, pod)
