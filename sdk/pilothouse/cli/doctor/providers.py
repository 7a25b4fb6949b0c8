"""Which ONNX Runtime execution providers really work: run as a script, it tries each in a session of its own.

``get_available_providers()`` lists what was compiled in, also where the GPU's libraries are missing; only a
session tells. It runs in a process of its own, because a broken GPU library may abort the one that loads it.
"""

import base64
import importlib
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from pilothouse.cli.doctor.findings import Finding, ok
from pilothouse.cli.doctor.machine import version_of

SHORT_NAMES = {
    "TensorrtExecutionProvider": "tensorrt",
    "CUDAExecutionProvider": "cuda",
    "CPUExecutionProvider": "cpu",
}
"""Name in ONNX Runtime → name in the configuration."""
TIMEOUT_SECONDS = 60.0

# An ONNX model of one node, y = Identity(x), float32 [1]; opset 13, IR version 8.
_MODEL = base64.b64decode(
    "CAg6NwoQCgF4EgF5IghJZGVudGl0eRIBaVoPCgF4EgoKCAgBEgQKAggBYg8KAXkSCgoICAESBAoCCAFCBAoAEA0="
)


def check_providers(required: Iterable[str] = ()) -> Finding:
    """Tries the execution providers.

    Args:
        required: Short names of those that the configuration demands; a missing one is an error.
    """
    if not any(version_of(name) for name in ("onnxruntime", "onnxruntime-gpu")):
        return ok("execution providers", "ONNX Runtime is not installed")
    command = [sys.executable, "-m", "pilothouse.cli.doctor.providers"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
        working = json.loads(ran.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError):
        mend = "reinstall one of the extras reward and reward-gpu"
        return Finding("execution providers", "error", "ONNX Runtime cannot be used", mend)
    missing = [name for name in required if name not in working]
    if missing:
        mend = "install the extra reward-gpu, the GPU's driver and CUDA libraries, or empty reward.require"
        detail = f"{', '.join(missing)} required, working: {', '.join(working) or 'none'}"
        return Finding("execution providers", "error", detail, mend)
    return ok("execution providers", f"working: {', '.join(working)}")


def working_providers() -> Iterator[str]:
    """Yields the short name of every provider with which a session really runs."""
    runtime: Any = importlib.import_module("onnxruntime")
    runtime.set_default_logger_severity(4)
    for name in runtime.get_available_providers():
        if name not in SHORT_NAMES:
            continue  # not one that the reward service can be told to use
        try:
            session = runtime.InferenceSession(_MODEL, providers=[name])
        except Exception:  # whatever a provider raises, it does not work
            continue
        if session.get_providers()[0] == name:
            yield SHORT_NAMES[name]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(list(working_providers())) + "\n")
