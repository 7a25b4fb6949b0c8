"""The release that is meant: what Helm installed, found by its labels."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pilothouse.cluster.api import Api
from pilothouse.cluster.kinds import CONFIG_MAP, POD, Object, at, labels_of, name_of
from pilothouse.errors import ConfigError, CorruptDataError, NotFoundError

NAME, INSTANCE, COMPONENT = (
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
)
_PART_OF = "app.kubernetes.io/part-of=pilothouse"
CONFIG_KEY = "pilothouse.toml"
COMPONENTS = ("policy", "reward", "reference", "feedback", "trainer")
"""In the order in which they are shown; a release may have others, such as ``triton``."""


@dataclass(frozen=True, slots=True)
class Release:
    """One installation."""

    name: str
    """Helm's name of it."""
    fullname: str
    """What the names of its objects begin with; its configuration's own name."""
    namespace: str
    chart: str = ""
    """Chart and version, as Helm labels them."""
    version: str = ""
    """Of Pilothouse."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """By which its pods are known."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Sections of the configuration file that its pods read."""

    def selector(self, component: str = "") -> str:
        """Returns the label selector of its objects, or of a component's."""
        wanted = dict(self.labels) | ({COMPONENT: component} if component else {})
        return ",".join(f"{key}={value}" for key, value in wanted.items())

    @property
    def lease(self) -> str:
        """Name of the Lease of its trainers."""
        return str(at(self.config, "ppo", "lease", "name") or f"{self.fullname}-trainer")


def find_release(api: Api, name: str | None = None) -> Release:
    """Returns the release in the namespace.

    Args:
        api: The cluster.
        name: Which one; None for the only one.

    Raises:
        NotFoundError: There is none.
        ConfigError: There are several, and none was named.
    """
    found = {}
    for settings in api.list(CONFIG_MAP, f"{_PART_OF},!{COMPONENT}").items:
        if CONFIG_KEY in (settings.get("data") or {}) and INSTANCE in labels_of(settings):
            release = _release(settings, api.namespace)
            found[release.name] = release
    there = f"in namespace {api.namespace}"
    if name is not None and name not in found:
        others = f"; there are: {', '.join(sorted(found))}" if found else ""
        raise NotFoundError(f"no release '{name}' of Pilothouse {there}{others}; check --namespace")
    if not found:
        raise NotFoundError(
            f"no release of Pilothouse {there}; choose another --namespace, or `helm install` one"
        )
    if name is None and len(found) > 1:
        raise ConfigError(
            f"several releases of Pilothouse {there}; choose one with --release: {', '.join(sorted(found))}"
        )
    return found[name] if name is not None else next(iter(found.values()))


def pods_of(api: Api, release: Release, component: str = "") -> list[Object]:
    """Returns the pods of a release, or of one component, in the order of components and names."""
    return ordered(api.list(POD, release.selector(component)).items)


def ordered(pods: list[Object]) -> list[Object]:
    """Sorts pods by component, then name."""
    places = {component: place for place, component in enumerate(COMPONENTS)}
    return sorted(pods, key=lambda pod: (places.get(component_of(pod), len(places)), name_of(pod)))


def component_of(found: Object) -> str:
    """Returns the component that an object belongs to; empty for none."""
    return labels_of(found).get(COMPONENT, "")


def _release(settings: Object, namespace: str) -> Release:
    labels = labels_of(settings)
    try:
        config = tomllib.loads(settings["data"][CONFIG_KEY])
    except tomllib.TOMLDecodeError as error:
        raise CorruptDataError(
            f"{CONFIG_KEY} in ConfigMap {name_of(settings)} is not TOML: {error}; `helm upgrade` mends it"
        ) from None
    return Release(
        name=labels[INSTANCE],
        fullname=name_of(settings),
        namespace=namespace,
        chart=labels.get("helm.sh/chart", ""),
        version=labels.get("app.kubernetes.io/version", ""),
        labels={key: labels[key] for key in (NAME, INSTANCE) if key in labels},
        config=config,
    )
