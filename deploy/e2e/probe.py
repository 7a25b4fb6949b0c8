"""Runs in a pod beside the release: what the policy's pods answer, and whether the ledger adds up.

probe.py watch NAME      asks every policy pod, ready or not, again and again; a JSON line for each answer
probe.py ledger FILE     checks every line of a run's ledger
"""

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from pilothouse.client import PolicyClient, WeightsClient
from pilothouse.errors import PilothouseError
from pilothouse.tls import adopt
from pilothouse.trainer.ledger_report import verify_ledger

PAUSE_SECONDS = 0.1
ANSWER_SECONDS = 2.0


def watch(name: str) -> None:
    """Asks all addresses behind the Service of weights, which publishes pods before they are Ready."""
    clients: dict[str, tuple[PolicyClient, WeightsClient]] = {}
    while True:
        for address in addresses(name):
            if address not in clients:
                clients[address] = connect(address, name)
            policy, weights = clients[address]
            asked = time.time()
            answered = version(lambda client=policy: client.model())
            serving = version(lambda client=weights: client.state())
            tell(
                {"asked": asked, "told": time.time(), "pod": address, "answers": answered, "serves": serving}
            )
        time.sleep(PAUSE_SECONDS)


def addresses(name: str) -> list[str]:
    """Returns the IPs behind a name; none while it has none."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror:
        return []
    return sorted({str(entry[4][0]) for entry in found})


def connect(address: str, name: str) -> tuple[PolicyClient, WeightsClient]:
    """Returns the clients of one pod, whose certificate names the service."""
    return (
        PolicyClient(f"{address}:50051", timeout_seconds=ANSWER_SECONDS, server_name=name),
        WeightsClient(f"{address}:50052", timeout_seconds=ANSWER_SECONDS, server_name=name),
    )


def version(ask: Callable[[], object]) -> list[int] | None:
    """Returns (epoch, version), or None where the pod takes no calls."""
    try:
        found = ask()
    except PilothouseError:
        return None
    return [found.epoch, found.version]


def tell(what: object) -> None:
    """Writes one line."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    adopt(Path(os.environ["PILOTHOUSE_CONFIG"]))
    if sys.argv[1] == "watch":
        watch(sys.argv[2])
    else:
        tell(asdict(verify_ledger(Path(sys.argv[2]))))
