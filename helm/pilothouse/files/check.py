"""What `helm test` runs: every service is ready, says so over gRPC, and answers a real call.

Its arguments are NAME=GRPC_TARGET=HTTP_ADDRESS, one for each service. It calls with the identity of the
configuration file. All of it together has CHECK_SECONDS: pods may still be loading their models.
"""

import os
import subprocess
import sys
import time
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
TELL_SECONDS = 10.0
"""How often it says what it waits for."""


def main(services: list[str], timeout_seconds: float) -> None:
    """Asks every service; ends with the first that fails."""
    adopt(Path(os.environ["PILOTHOUSE_CONFIG"]))
    deadline = time.monotonic() + timeout_seconds
    for service in services:
        name, target, http = service.split("=")
        wait_ready(name, http, deadline)
        with CLIENTS[name](target) as client:
            client.wait_ready(left(deadline))
        say(f"{name}: gRPC health SERVING at {target}")
        for call in CALLS[name]:
            say(f"{name}: pilothouse {' '.join(call)}")
            subprocess.run(["pilothouse", *call, "--target", target], check=True, timeout=left(deadline))


def wait_ready(name: str, http: str, deadline: float, pause_seconds: float = 1.0) -> None:
    """Asks /readyz until it is answered with 200; a pod that is not Ready has no name in DNS either.

    Raises:
        SystemExit: It was not by the deadline.
    """
    told = 0.0
    while True:
        try:
            with urllib.request.urlopen(f"http://{http}/readyz", timeout=min(10.0, left(deadline))) as answer:
                say(f"{name}: /readyz {answer.status}")
                return
        except OSError as error:  # refused, 503, no such name, too slow
            now = time.monotonic()
            if now >= deadline:
                sys.exit(f"{name}: still not ready, {error}; see the log of its pod, or test.timeoutSeconds")
            if now >= told:
                say(f"{name}: not ready yet, {error}; {left(deadline):.0f} s left")
                told = now + TELL_SECONDS
        time.sleep(pause_seconds)


def left(deadline: float) -> float:
    """Returns the seconds until then, and at least one."""
    return max(1.0, deadline - time.monotonic())


def say(line: str) -> None:
    """Writes a line before what a command writes."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:], float(os.environ["CHECK_SECONDS"]))
