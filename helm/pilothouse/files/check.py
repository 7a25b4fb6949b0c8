"""What `helm test` runs: every service is ready, says so over gRPC, and answers a real call.

Its arguments are NAME=GRPC_TARGET=HTTP_ADDRESS, one for each service. It calls with the identity of the
configuration file.
"""

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

from pilothouse.client import FeedbackClient, PolicyClient, ReferenceClient, RewardClient
from pilothouse.tls import adopt

CLIENTS = {
    "policy": PolicyClient,
    "reward": RewardClient,
    "reference": ReferenceClient,
    "feedback": FeedbackClient,
}
CALLS = {
    "policy": (
        ("generate", "the film was", "--max-new-tokens", "8", "--json"),
        ("logprobs", "the film was", " good", "--json"),
    ),
    "reward": (("score", "the film was", " a good film to see.", "--json"),),
    "reference": (("logprobs", "the film was", " good", "--model", "reference", "--json"),),
    "feedback": (("feedback", "queues", "--json"),),
}
"""Commands of the command line, without their --target."""


def main(services: list[str], timeout_seconds: float) -> None:
    """Asks every service; ends with the first that fails."""
    adopt(Path(os.environ["PILOTHOUSE_CONFIG"]))
    for service in services:
        name, target, http = service.split("=")
        with urllib.request.urlopen(f"http://{http}/readyz", timeout=timeout_seconds) as answer:
            say(f"{name}: /readyz {answer.status}")
        with CLIENTS[name](target) as client:
            client.wait_ready(timeout_seconds)
        say(f"{name}: gRPC health SERVING at {target}")
        for call in CALLS[name]:
            say(f"{name}: pilothouse {' '.join(call)}")
            subprocess.run(["pilothouse", *call, "--target", target], check=True, timeout=timeout_seconds)


def say(line: str) -> None:
    """Writes a line before what a command writes."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:], float(os.environ["CHECK_SECONDS"]))
