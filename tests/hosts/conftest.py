"""The services on one host and trainers on another, as an operator starts them."""

import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.certificates import Authority
from tests.hosts.network import HOSTS, Network, missing
from tests.hosts.watch import Watch
from tests.integration.trainer.conftest import ANSWERS, PROGRAM, Trainer
from transformers import AutoModelForCausalLM, LlamaConfig

from pilothouse.local.process import send, spawn
from pilothouse.models.load import load_causal_lm, parameters_by_name
from pilothouse.models.text import TextCodec
from pilothouse.models.tiny import ARCHITECTURES

TOTAL_STEPS = 3
PROMPTS_PER_STEP = 8
CONFIG = Path(__file__).parents[2] / "deploy" / "config" / "tiny.toml"
TARGETS = {
    name: f"{HOSTS['services']}:{port}"
    for name, port in (("policy", 7001), ("weights", 7002), ("reward", 7003), ("reference", 7004))
}
"""Where the configuration puts the services, as the other host sees them."""
POLICY_PAGES = f"{HOSTS['services']}:7101"

On = Callable[[str], tuple[str, ...]]

_LOOK_SECONDS = 0.02


@pytest.fixture(scope="session")
def network(require: Callable[[object, str], None]) -> Iterator[Network]:
    """Two hosts and the switch between them."""
    lacking = missing()
    require(not lacking, lacking)
    with Network() as network:
        yield network


@pytest.fixture(scope="session")
def on(network: Network, tmp_path_factory: pytest.TempPathFactory) -> On:
    """``on(host)``: what goes before a command so that it runs there, with the host's own certificate."""
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    secrets = {host: authority.issue(host, address) for host, address in HOSTS.items()}

    def on(host: str) -> tuple[str, ...]:
        keys = secrets[host].model_dump(exclude_none=True)
        return (*network.on(host), "env", *(f"PILOTHOUSE_TLS__{key.upper()}={keys[key]}" for key in keys))

    return on


@pytest.fixture
def switch(network: Network) -> Iterator[Network]:
    """The network, whole again behind every test."""
    yield network
    network.mend()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, but wide and deep enough that a push of it is several chunks."""
    folder = tmp_path_factory.mktemp("model")
    shape = ARCHITECTURES["llama-tied"].to_dict()
    config = LlamaConfig(**shape | {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    TextCodec.load("tiny").save(folder)
    return folder


@pytest.fixture(scope="session")
def push_bytes(model: Path) -> int:
    """Size of a push of all weights."""
    return sum(tensor.nbytes for tensor in parameters_by_name(load_causal_lm(model).model).values())


@pytest.fixture(scope="session")
def services(on: On, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """``pilothouse up`` with the tiny configuration, and with addresses for other hosts; yields its log."""
    state = tmp_path_factory.mktemp("services")
    settings = [f"local.state_dir='{state}'", f"policy.model='{model}'", f"reference.model='{model}'"]
    settings += ["policy.max_sequence_tokens=256", "reward.batching.across_requests=false"]
    settings += ["reward.rule.falloff=400"]  # long answers differ too
    for server in ("policy.server", "policy.weights_server", "reward.server", "reference.server"):
        settings += [f"{server}.host='{HOSTS['services']}'"]
    words = [word for setting in settings for word in ("--set", setting)]
    up = [*on("services"), PROGRAM, "up", "--foreground", "--config", str(CONFIG), *words]
    log = state / "up.log"
    process = spawn(up, log)
    while not all(f"{name} serving" in log.read_text() for name in ("policy", "reward", "reference")):
        assert process.poll() is None, log.read_text()
        time.sleep(_LOOK_SECONDS)
    yield log
    send(process, signal.SIGTERM)
    process.wait()


@pytest.fixture(scope="session")
def watch(on: On, services: Path) -> Iterator[Watch]:
    """Asks the policy, on its own host, all the time what it serves."""
    watch = Watch(on("services"), TARGETS["policy"], POLICY_PAGES)
    yield watch
    watch.close()


@pytest.fixture
def policy(watch: Watch) -> Watch:
    """The policy, as it was seen on its own host since the beginning of the test."""
    watch.forget()
    return watch


class FarTrainer(Trainer):
    """A trainer on the other host. Its server is out of reach from here; its files are not."""

    def wait_for_step(self, step: int) -> None:
        """Returns when the step is in the metrics file."""
        while self.steps_done() < step:
            assert self.process.poll() is None, self.output()
            time.sleep(_LOOK_SECONDS)

    def steps_done(self) -> int:
        """Returns the last step of the metrics file."""
        file = self.folder / "metrics.jsonl"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def checkpoints(self) -> list[Path]:
        """Returns one folder for each step done."""
        return sorted((self.folder / "checkpoints").glob("step_*"))


Start = Callable[..., FarTrainer]


@pytest.fixture(scope="session")
def begin(on: On, watch: Watch, model: Path) -> Iterator[Start]:
    """``begin(folder, name, **overrides)``: a trainer on the other host."""
    running: list[FarTrainer] = []

    def begin(folder: Path, name: str, **overrides: Any) -> FarTrainer:
        prompts = folder / "prompts.jsonl"
        rows = [{"id": f"p{row}", "prompt": f"the film {word} was"} for row, word in enumerate(ANSWERS)]
        prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
        config: dict[str, Any] = {
            "model": str(model),
            "total_steps": TOTAL_STEPS,
            "epochs": 2,
            "minibatches": 2,
            "threads": 1,
            "seed": 5,
            "policy": {"learning_rate": 1e-4},
            "value": {"learning_rate": 1e-3},
            "scores": {"missing_eos_score": None},
            # Answers long enough to be caught in the middle.
            "rollout": {"prompts": [str(prompts)], "prompts_per_step": PROMPTS_PER_STEP}
            | {"min_new_tokens": 200, "max_new_tokens": 200},
            # Every version is kept, to be compared with what the policy served.
            "run": {"name": name, "folder": str(folder), "checkpoint_every_steps": 1, "keep_last": 99},
            "server": {"port_file": str(folder / f"{name}.port"), "http_port": -1, "drain_seconds": 1},
            "services": dict(TARGETS),
        }
        for section, values in overrides.items():
            config[section] = config[section] | values if isinstance(values, Mapping) else values
        trainer = FarTrainer(config, folder / name, launcher=on("trainer"))
        running.append(trainer)
        return trainer

    yield begin
    for trainer in running:
        trainer.close()


@pytest.fixture
def start(begin: Start, tmp_path: Path) -> Start:
    """``start(name, **overrides)``: a trainer on the other host; the same name again resumes."""

    def start(name: str, **overrides: Any) -> FarTrainer:
        return begin(tmp_path, name, **overrides)

    return start


@pytest.fixture(scope="session")
def unbroken(begin: Start, tmp_path_factory: pytest.TempPathFactory) -> FarTrainer:
    """A run that nothing disturbed, finished."""
    trainer = begin(tmp_path_factory.mktemp("runs"), "unbroken")
    trainer.finish()
    return trainer
