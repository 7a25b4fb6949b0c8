"""Asks a policy, beside it, over and over what it serves: ``watch.py GRPC HTTP``. A line whenever that changes.

Every line tells the model's version and digest, a digest of the log-probs that the weights give a fixed
sequence, with the version of these, and how many completions run.
"""

import hashlib
import json
import sys
import time
from urllib.request import urlopen

from pilothouse.client import PolicyClient

PROBE = list(range(1, 33))
PAUSE_SECONDS = 0.01


def running(page: str) -> int:
    """Returns how many completions run."""
    name = "pilothouse_policy_running "
    return int(float(next(line for line in page.splitlines() if line.startswith(name)).removeprefix(name)))


def main(grpc: str, http: str) -> None:
    """Watches until it is ended."""
    last = ""
    with PolicyClient(grpc) as policy:
        policy.wait_ready(60)
        while True:
            model = policy.model()
            probe = policy.logprobs([PROBE], [1])
            with urlopen(f"http://{http}/metrics") as page:
                now = {
                    "version": (model.epoch, model.version),
                    "digest": model.digest,
                    "probe_version": (probe.epoch, probe.version),
                    "probe": hashlib.sha256(probe.rows[0].tobytes()).hexdigest(),
                    "running": running(page.read().decode()),
                }
            line = json.dumps(now)
            if line != last:
                print(line, flush=True)
                last = line
            time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main(*sys.argv[1:])
