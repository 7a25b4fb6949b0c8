"""Looks at a release: objects from the API server, answers from the pods."""

import datetime

from pilothouse.client.types import TrainerStatus
from pilothouse.cluster.api import Api
from pilothouse.cluster.identity import calling_trainer
from pilothouse.cluster.kinds import DEPLOYMENT, JOB, LEASE, STATEFUL_SET, Object, name_of
from pilothouse.cluster.objects import is_running, ports_of
from pilothouse.cluster.picture import Answers, Objects, Picture, picture
from pilothouse.cluster.release import Release, pods_of
from pilothouse.cluster.scraping import scrape
from pilothouse.errors import NotFoundError, PilothouseError
from pilothouse.tls import Tls

_TRAINER_SECONDS = 5.0

Identity = Tls | PilothouseError | None
"""Who the operator is to the services, or why that is not known; see `pilothouse.cluster.identity`."""


def objects_of(api: Api, release: Release) -> Objects:
    """Reads the objects of a release."""
    selector = release.selector()
    return Objects(
        pods=pods_of(api, release),
        workloads=[*api.list(DEPLOYMENT, selector).items, *api.list(STATEFUL_SET, selector).items],
        jobs=api.list(JOB, release.selector("trainer")).items,
        lease=lease_of(api, release),
    )


def lease_of(api: Api, release: Release) -> Object | None:
    """Returns the Lease of the trainer; None where no trainer has taken it yet."""
    try:
        return api.get(LEASE, release.lease)
    except NotFoundError:
        return None


def answers_of(api: Api, release: Release, objects: Objects, identity: Identity) -> Answers:
    """Asks every pod that runs."""
    metrics = scrape(api, filter(has_figures, objects.pods))
    pod = objects.trainer_pod
    if pod is None or "grpc" not in ports_of(pod):  # an evaluation takes no calls
        return Answers(metrics)
    return Answers(metrics, _status(api, release, pod, identity), name_of(pod))


def has_figures(pod: Object) -> bool:
    """Returns whether a pod may show metrics: one of a service or a trainer, and not of a `helm test`."""
    return is_running(pod) and "http" in ports_of(pod)


def look(api: Api, release: Release, identity: Identity) -> Picture:
    """Returns what the release looks like now."""
    objects = objects_of(api, release)
    answers = answers_of(api, release, objects, identity)
    return picture(release, objects, answers, datetime.datetime.now(datetime.UTC))


def _status(api: Api, release: Release, pod: Object, identity: Identity) -> TrainerStatus | PilothouseError:
    if isinstance(identity, PilothouseError):
        return identity
    try:
        with calling_trainer(api, release, pod, identity) as client:
            client.timeout_seconds = _TRAINER_SECONDS
            return client.status()
    except PilothouseError as error:
        return error
