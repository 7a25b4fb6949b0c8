"""Changes how many pods a component has."""

from pilothouse.cluster.api import Api
from pilothouse.cluster.kinds import AUTOSCALER, DEPLOYMENT, STATEFUL_SET, Kind, Object, at, name_of
from pilothouse.cluster.release import Release
from pilothouse.errors import InvalidRequestError, NotFoundError, PreconditionError


def scale(api: Api, release: Release, component: str, count: int) -> tuple[str, int]:
    """Sets the number of a component's pods.

    Args:
        api: The cluster.
        release: Which one.
        component: ``policy``, ``reward``, ...
        count: So many.

    Returns:
        (name of the workload, pods before).

    Raises:
        NotFoundError: The release has no such component.
        InvalidRequestError: The component can have no such number of pods.
        PreconditionError: An autoscaler decides their number.
        ConflictError: Others change it all the time.
    """
    kind, workload = _workload(api, release, component)
    name = name_of(workload)
    _check(api, release, component, kind, name, count)
    before = 0

    def edit(found: Object) -> None:
        nonlocal before
        before = int(at(found, "spec", "replicas") or 0)
        found["spec"]["replicas"] = count

    api.change(kind, name, edit, "scale")
    return name, before


def _workload(api: Api, release: Release, component: str) -> tuple[Kind, Object]:
    for kind in (DEPLOYMENT, STATEFUL_SET):
        for found in api.list(kind, release.selector(component)).items:
            return kind, found
    raise NotFoundError(
        f"release {release.name} has no component '{component}' that can be scaled; a trainer's ranks are "
        "set by `helm upgrade --set trainer.ranks=N`"
    )


def _check(api: Api, release: Release, component: str, kind: Kind, name: str, count: int) -> None:
    if component == "trainer" and count > 1:
        raise InvalidRequestError(
            "there is one trainer at a time, or its ranks: `helm upgrade --set trainer.ranks=N`"
        )
    if component == "feedback" and count > 1 and kind is STATEFUL_SET:
        raise InvalidRequestError(
            "feedback keeps what people say in SQLite, which one pod alone may write; for more of them "
            "install with feedback.postgresql.enabled=true"
        )
    for autoscaler in api.list(AUTOSCALER).items:
        target = at(autoscaler, "spec", "scaleTargetRef") or {}
        if (target.get("kind"), target.get("name")) == (kind.kind, name):
            low, high = (at(autoscaler, "spec", key) or 1 for key in ("minReplicas", "maxReplicas"))
            raise PreconditionError(
                f"autoscaler {name_of(autoscaler)} decides how many pods {component} has, {low} to {high}; "
                f"change its limits: `helm upgrade --set {component}.autoscaling.minReplicas=N`"
            )
