"""The figures that pods show on ``/metrics``."""

import http.client
import math
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from prometheus_client.parser import text_string_to_metric_families

from pilothouse.cluster.api import Api
from pilothouse.cluster.forwarding import forwarded
from pilothouse.cluster.kinds import Object, name_of
from pilothouse.errors import CorruptDataError, PilothouseError, UnavailableError

Samples = Mapping[str, float]
"""Value by series name; of a series with labels, the sum."""
Result = TypeVar("Result")

_SECONDS = 10.0
_AT_ONCE = 8


def of_each(pods: Iterable[Object], ask: Callable[[Object], Result]) -> dict[str, Result | PilothouseError]:
    """Asks pods at the same time; a pod that fails has its error as the answer."""

    def one(pod: Object) -> Result | PilothouseError:
        try:
            return ask(pod)
        except PilothouseError as error:
            return error

    found = list(pods)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(map(name_of, found), pool.map(one, found), strict=True))


def metrics_text(api: Api, pod: Object) -> str:
    """Returns what a pod shows on ``/metrics``.

    Raises:
        UnavailableError: It does not answer.
    """
    with forwarded(api, pod, "http") as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
        try:
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            body = answer.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(
                f"pod {name_of(pod)} does not show its metrics ({error or 'no answer'}); see its logs"
            ) from error
        finally:
            connection.close()
    if answer.status != http.client.OK:
        raise UnavailableError(f"pod {name_of(pod)} answers {answer.status} for its metrics")
    return body


def samples(text: str) -> Samples:
    """Reads Prometheus's text form; what is not a number is left out.

    Raises:
        CorruptDataError: It is something else.
    """
    found: dict[str, float] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if math.isfinite(sample.value):
                    found[sample.name] = found.get(sample.name, 0.0) + sample.value
    except ValueError as error:
        raise CorruptDataError(f"these are no metrics: {error}") from error
    return found


def scrape(api: Api, pods: Iterable[Object]) -> dict[str, Samples | PilothouseError]:
    """Returns the figures of each pod by its name."""
    return of_each(pods, lambda pod: samples(metrics_text(api, pod)))
