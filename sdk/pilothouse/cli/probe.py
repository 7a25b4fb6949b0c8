"""Asks a running service which model it serves."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pilothouse.client import FeedbackClient, PolicyClient, ReferenceClient, RewardClient
from pilothouse.errors import PilothouseError
from pilothouse.local.events import ServiceStatus

TIMEOUT_SECONDS = 3.0
"""Longest wait for the answer."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A service's answer."""

    model: str = ""
    """What it serves."""
    version: str = ""
    """Weight version, reward version or digest."""
    round_trip_seconds: float = 0.0
    """How long the answer took."""
    error: str = ""
    """Why there was none."""


def probe_all(services: Sequence[ServiceStatus]) -> list[Probe]:
    """Asks services, named as in the configuration, for their models; all at the same time."""
    with ThreadPoolExecutor(max(len(services), 1)) as threads:
        return list(threads.map(_probe, services))


def _probe(service: ServiceStatus) -> Probe:
    if service.name not in service.targets:
        return Probe(error=f"it does not listen yet ({service.state})")
    begin = time.perf_counter()
    try:
        model, version = _describe(service.name, service.targets[service.name])
    except PilothouseError as error:
        return Probe(error=str(error))
    return Probe(model, version, time.perf_counter() - begin)


def _describe(name: str, target: str) -> tuple[str, str]:
    if name == "policy":
        with PolicyClient(target, timeout_seconds=TIMEOUT_SECONDS) as policy:
            served = policy.model()
        return served.model, f"epoch {served.epoch} version {served.version}"
    if name == "reward":
        with RewardClient(target, timeout_seconds=TIMEOUT_SECONDS) as reward:
            scorer = reward.model()
        used = f" on {', '.join(scorer.providers)}" if scorer.providers else ""
        return f"{scorer.backend}{used}", scorer.reward_version
    if name == "feedback":
        with FeedbackClient(target, timeout_seconds=TIMEOUT_SECONDS) as feedback:
            page, counts = feedback.page_address(), feedback.progress()
        return page or "no page", f"{counts.rankings} rankings"
    with ReferenceClient(target, timeout_seconds=TIMEOUT_SECONDS) as reference:
        frozen = reference.model()
    return frozen.model, frozen.reference_digest
