"""The demo's three services, as supervised child processes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pilothouse.local import LocalStack
from pilothouse.trainer.run_config import ServicesConfig


@contextmanager
def running(
    folder: Path, *, policy: str, reference: str, reward: Path, max_sequence_tokens: int, rows: int
) -> Iterator[ServicesConfig]:
    """Runs policy, reward (ONNX Runtime) and reference service while the block runs.

    Args:
        folder: For their logs.
        policy: Model folder that the policy starts from.
        reference: Model folder of the reference.
        reward: Exported reward model.
        max_sequence_tokens: Longest prompt and response together.
        rows: Responses that run at the same time.
    """
    settings = {
        "policy.model": policy,
        "policy.max_sequence_tokens": max_sequence_tokens,
        "policy.max_running": rows,
        "policy.keep_previous": False,
        "reference.model": reference,
        "reward.backend": "onnx",
        "reward.model": str(reward),
        "reward.providers": ["cpu"],
        "reward.batching.across_requests": False,
    }
    overrides = [f"{key}={_toml(value)}" for key, value in settings.items()]
    folder.mkdir(parents=True, exist_ok=True)
    with LocalStack(overrides=overrides, services=("policy", "reward", "reference"), folder=folder) as stack:
        yield ServicesConfig.model_validate(dict(stack.targets))


def _toml(value: object) -> str:
    """Returns a string, number, truth value or list of strings as TOML; for these JSON is TOML."""
    return json.dumps(value)
