"""Real processes: the services under a LocalStack, and trainers that can be killed.

The reward is that of a learned model on ONNX Runtime, as in a real run: its scores are floating point, and a
batch of another shape would change their last bits.
"""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from pilothouse.client import TrainerClient
from pilothouse.local import LocalStack
from pilothouse.models.export import export_reward_model
from pilothouse.models.heads import ScalarModel
from pilothouse.models.text import TextCodec
from pilothouse.models.tiny import tiny_model

TOTAL_STEPS = 8
PROGRAM = str(Path(sys.executable).with_name("pilothouse"))
ANSWERS = ("good", "bad", "great", "boring", "wonderful", "awful", "long", "short", "new", "old", "happy")

SETTINGS = [
    "policy.model=tiny",
    "policy.threads=1",
    "policy.max_sequence_tokens=128",
    "policy.server.http_port=-1",
    "reference.model=tiny",
    "reference.threads=1",
    "reference.server.http_port=-1",
    "reward.backend=onnx",
    "reward.providers=['cpu']",
    "reward.threads=1",
    "reward.server.http_port=-1",
    "reward.batching.across_requests=false",
    "local.backoff_seconds=0.05",
]

Overrides = dict[str, Any]


@pytest.fixture(scope="session")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny reward model, exported."""
    folder = tmp_path_factory.mktemp("reward")
    scalar = ScalarModel.from_causal_lm(tiny_model(seed=5), seed=1)
    scalar.save(folder / "torch", TextCodec.load("tiny"))
    export_reward_model(folder / "torch", folder / "onnx")
    return folder / "onnx"


@pytest.fixture(scope="module")
def stack(reward_model: Path) -> Iterator[LocalStack]:
    """Policy, reward and reference on tiny models; restarted on the same ports when they die."""
    with LocalStack(overrides=[*SETTINGS, f"reward.model='{reward_model}'"]) as stack:
        yield stack


@pytest.fixture
def kill_service(stack: LocalStack) -> Callable[[str], None]:
    """``kill_service(name)``: kill -9."""

    def kill(name: str) -> None:
        pid = next(status.pid for status in stack.status() if status.name == name)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    return kill


def flags(place: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """Yields settings as the command line takes them."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flags(f"{place}.{name}", value)
        else:
            yield from ("--set", f"{place}.{name}={'none' if value is None else json.dumps(value)}")


class Trainer:
    """One trainer process, as the command line starts it."""

    def __init__(
        self,
        config: dict[str, Any],
        folder: Path,
        launcher: Sequence[str] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Starts it; ``launcher`` goes before the command, as on another host or under torchrun."""
        self.folder = folder
        self._port_file = Path(config["server"]["port_file"])
        self._port_file.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [*launcher, PROGRAM, "train", "ppo", "--json", *flags("ppo", config)],
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def connect(self) -> TrainerClient:
        """Waits until the trainer's server is up."""
        while not self._port_file.exists():
            assert self.process.poll() is None, self.output()
            time.sleep(0.02)
        return TrainerClient(f"127.0.0.1:{json.loads(self._port_file.read_text())['port']}")

    @property
    def http_port(self) -> int:
        """Where its metrics are, once it serves."""
        port: int = json.loads(self._port_file.read_text())["http_port"]
        return port

    def wait_for_step(self, step: int) -> None:
        """Returns when the step's metrics have come over the wire."""
        with self.connect() as client:
            for metrics in client.metrics(from_step=step):
                if metrics.step >= step:
                    return

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def close(self) -> None:
        """Ends it if it still runs."""
        if self.process.poll() is None:
            self.kill()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def finish(self, status: int = 0) -> str:
        """Waits for the end, demands the exit status, returns the output."""
        output = self.output()
        assert self.process.returncode == status, output
        return output

    def output(self) -> str:
        return self.process.communicate(timeout=240)[0].decode()

    def ledger(self) -> Path:
        return self.folder / "ledger.jsonl"


Start = Callable[..., Trainer]


@pytest.fixture(scope="module")
def begin(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """``begin(folder, name, launcher=, environment=, **overrides)``: a trainer process."""
    running: list[Trainer] = []
    prompts = tmp_path_factory.mktemp("data") / "prompts.jsonl"
    rows = [{"id": f"p{row}", "prompt": f"the film {word} was"} for row, word in enumerate(ANSWERS)]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def begin(
        folder: Path,
        name: str,
        *,
        launcher: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        **overrides: Any,
    ) -> Trainer:
        config: dict[str, Any] = {
            "total_steps": TOTAL_STEPS,
            "epochs": 2,
            "minibatches": 2,
            "threads": 1,
            "seed": 5,
            "scores": {"missing_eos_score": None, "normalise": True},
            "kl": {"adaptive": True, "target_nats": 0.5, "horizon_episodes": 100},
            "policy": {"learning_rate": 1e-3},
            "value": {"learning_rate": 1e-3},
            "services": dict(stack.targets),
            "server": {"port_file": str(folder / f"{name}.port"), "http_port": -1, "drain_seconds": 1},
        }
        run = {"name": name, "folder": str(folder), "checkpoint_every_steps": 3}
        rollout = {"prompts": [str(prompts)], "prompts_per_step": 8, "max_new_tokens": 12}
        config |= overrides
        config["run"] = run | overrides.get("run", {})
        config["rollout"] = rollout | overrides.get("rollout", {})
        trainer = Trainer(config, folder / name, launcher, environment or {})
        running.append(trainer)
        return trainer

    yield begin
    for trainer in running:
        trainer.close()


@pytest.fixture
def start(begin: Start, tmp_path: Path) -> Start:
    """``start(name, **overrides)``: a trainer process; the same name again resumes."""
    return functools.partial(begin, tmp_path)


@pytest.fixture(scope="module")
def unbroken(begin: Start, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """A run that nothing disturbed, finished."""
    trainer = begin(tmp_path_factory.mktemp("runs"), "unbroken")
    trainer.finish()
    return trainer


def learned(folder: Path) -> dict[str, str]:
    """Returns the digest of every file that holds what was learned, from the run's last checkpoint."""
    last = sorted((folder / "checkpoints").glob("step_*"))[-1]
    files = json.loads((last / "MANIFEST.json").read_text())["files"]
    return {name: entry["blake3"] for name, entry in files.items() if name != "state.json"}


@pytest.fixture(name="learned")
def _learned() -> Callable[[Path], dict[str, str]]:
    """``learned(run folder)``: digests of everything that was learned."""
    return learned
