"""Takes the last weight push back, on every policy pod."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from pilothouse.client.weights import WeightsClient
from pilothouse.cluster.api import Api
from pilothouse.cluster.identity import calling
from pilothouse.cluster.kinds import Object, name_of
from pilothouse.cluster.objects import is_running
from pilothouse.cluster.release import Release, pods_of
from pilothouse.cluster.scraping import of_each, scrape
from pilothouse.errors import NotFoundError, PilothouseError, PreconditionError, UnavailableError
from pilothouse.tls import Tls

_REACH_SECONDS = 10.0

Version = tuple[int, int]
"""(epoch, version)."""


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What became of each pod."""

    before: Version
    after: Mapping[str, Version | PilothouseError]
    """Version that serves now, or what went wrong, by pod."""

    @property
    def is_whole(self) -> bool:
        """Whether all pods serve one version."""
        found = list(self.after.values())
        return all(isinstance(each, tuple) for each in found) and len(set(found)) == 1


def roll_back(api: Api, release: Release, tls: Tls | None) -> RolledBack:
    """Goes back to the weights before the last commit, on all policy pods or on none where that can be known.

    No pod is touched before every one of them was reached and says that it serves the same version. What
    fails later is told, and the others stay rolled back: once more would take them one version further.

    Raises:
        NotFoundError: There is no policy pod.
        UnavailableError: A pod cannot be reached; nothing was changed.
        PreconditionError: The pods serve different versions; nothing was changed.
    """
    pods = pods_of(api, release, "policy")
    if not pods:
        raise NotFoundError(f"release {release.name} has no policy pods")
    absent = [name_of(pod) for pod in pods if not is_running(pod)]
    if absent:
        raise UnavailableError(
            f"not running: {', '.join(absent)}; nothing was changed. Wait, or scale policy down to the others"
        )
    before = _same_version(api, pods)
    with ExitStack() as stack:
        clients: dict[str, WeightsClient] = {}
        for pod in pods:
            client = stack.enter_context(
                calling(WeightsClient, api, release, pod, "weights", service="weights", tls=tls)
            )
            client.wait_ready(_REACH_SECONDS)
            clients[name_of(pod)] = client
        return RolledBack(before, of_each(pods, lambda pod: clients[name_of(pod)].rollback()))


def _same_version(api: Api, pods: list[Object]) -> Version:
    found: dict[str, Version] = {}
    for name, figures in scrape(api, pods).items():
        if isinstance(figures, PilothouseError):
            raise figures
        epoch, version = (figures.get(f"pilothouse_policy_{key}") for key in ("epoch", "version"))
        if epoch is None or version is None:
            raise UnavailableError(f"pod {name} does not say which weights it serves; nothing was changed")
        found[name] = (int(epoch), int(version))
    if len(set(found.values())) > 1:
        told = ", ".join(f"{name} {epoch}.{version}" for name, (epoch, version) in found.items())
        raise PreconditionError(
            f"the pods serve different weights, so that going one version back would mean different things: "
            f"{told}; nothing was changed. Wait until they have caught up"
        )
    return next(iter(found.values()))
