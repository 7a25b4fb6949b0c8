"""A supervised run as the outside sees it: signals, server, metrics."""

import json
import os
import signal
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from pilothouse.client import TrainerClient
from pilothouse.errors import ConfigError, RunInUseError
from pilothouse.trainer.config import RewardModelConfig, SftConfig
from pilothouse.trainer.fit_run import StoppedOnRequest
from pilothouse.trainer.reward_model import train_reward_model
from pilothouse.trainer.run_dir import RunDir
from pilothouse.trainer.sft import train_sft

Step = Callable[[int, int, Mapping[str, float]], None]


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., SftConfig]:
    """``config(key=value)``: a run of 40 short steps in ``tmp_path/run`` that says where it listens."""
    data = tmp_path / "demonstrations.jsonl"
    data.write_text("".join(json.dumps({"text": f" the film was {word}"}) + "\n" for word in "abcdefgh"))

    def build(**changes: Any) -> SftConfig:
        server = {"port_file": tmp_path / "port.json", "drain_seconds": 5}
        values = {"data": (data,), "output": tmp_path / "run", "batch_size": 2, "epochs": 10}
        return SftConfig.model_validate(values | {"server": server} | changes)

    return build


@contextmanager
def running(config: SftConfig) -> Iterator[tuple[TrainerClient, dict[str, Any], "Future[None]"]]:
    """Runs SFT in a thread, held before its fourth step; yields a client, the port file and the outcome."""
    held, outcome = threading.Event(), Future[None]()
    told: dict[str, Any] = {}

    def hold(done: int, total: int, metrics: Mapping[str, float]) -> None:
        if done == 3:
            assert config.server.port_file is not None
            told.update(json.loads(config.server.port_file.read_text()))
            with TrainerClient(f"127.0.0.1:{told['port']}") as first:
                first.pause()
            held.set()

    def run() -> None:
        try:
            train_sft(config, hold)
            outcome.set_result(None)
        except BaseException as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert held.wait(60), outcome.exception(1)
    with TrainerClient(f"127.0.0.1:{told['port']}") as client:
        yield client, told, outcome
    thread.join()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops_and_the_same_call_goes_on(
    config: Callable[..., SftConfig], tmp_path: Path, number: signal.Signals
) -> None:
    def stop(done: int, total: int, metrics: Mapping[str, float]) -> None:
        if done == 3:
            os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt):
        train_sft(config(), stop)
    assert (tmp_path / "run" / "checkpoints" / "step_00000003" / "COMMITTED").is_file()
    assert not (tmp_path / "run" / "model").exists()
    steps: list[int] = []
    train_sft(config(), lambda done, total, metrics: steps.append(done))
    assert steps == list(range(4, 41))


def test_a_signal_in_the_last_step_is_heard_too(config: Callable[..., SftConfig], tmp_path: Path) -> None:
    def stop(done: int, total: int, metrics: Mapping[str, float]) -> None:
        if done == total:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(StoppedOnRequest) as stopped:
        train_sft(config(epochs=1), stop)
    assert stopped.value.step == 4
    assert stopped.value.checkpoint == tmp_path / "run" / "checkpoints" / "step_00000004"
    assert not (tmp_path / "run" / "model").exists()
    train_sft(config(epochs=1))
    assert (tmp_path / "run" / "model").is_dir()


def test_a_finished_run_called_again_has_nothing_to_do_unless_it_gets_more_epochs(
    config: Callable[..., SftConfig], tmp_path: Path
) -> None:
    weights = tmp_path / "run" / "model" / "model.safetensors"
    steps: list[int] = []
    train_sft(config(epochs=1))
    finished = weights.read_bytes()
    told = train_sft(config(epochs=1), lambda done, total, metrics: steps.append(done))
    assert steps == []
    assert told["epoch"] == 1.0
    assert "loss" in told
    assert weights.read_bytes() == finished
    train_sft(config(epochs=2), lambda done, total, metrics: steps.append(done))
    assert steps == [5, 6, 7, 8]
    assert weights.read_bytes() != finished
    with pytest.raises(ConfigError, match="holds a run of 8 steps, more than the 4 asked for"):
        train_sft(config(epochs=1))


def test_a_finished_reward_model_called_again_tells_the_same_accuracy(tmp_path: Path) -> None:
    data = tmp_path / "rankings.jsonl"
    data.write_text('{"chosen": " so good", "rejected": " so bad"}\n' * 4)
    values = {"data": (data,), "evaluation_data": (data,), "output": tmp_path / "run", "batch_size": 2}
    first, again = (
        train_reward_model(RewardModelConfig.model_validate(values | {"max_sequence_tokens": 32}))
        for _ in range(2)
    )
    assert first.accuracy is not None
    assert again.accuracy is not None
    assert again.accuracy.overall == first.accuracy.overall
    assert again.accuracy.margin == first.accuracy.margin
    assert again.version == first.version


def test_sft_is_watched_and_steered_like_ppo(config: Callable[..., SftConfig], tmp_path: Path) -> None:
    with running(config()) as (client, told, outcome):
        assert [row.step for row in islice(client.metrics(), 3)] == [1, 2, 3]
        status = client.status()
        assert (status.run, status.task, status.step, status.total_steps) == ("run", "sft", 3, 40)
        saved = client.checkpoint()
        assert (saved.checkpoint, saved.step) == ("checkpoints/step_00000003", 3)
        assert client.status().state == "paused"
        with urllib.request.urlopen(f"http://127.0.0.1:{told['http_port']}/metrics") as answer:
            shown = answer.read().decode()
        assert "pilothouse_trainer_step 3.0" in shown
        assert "pilothouse_fit_loss" in shown
        assert client.stop() == "checkpoints/step_00000003"
        assert isinstance(outcome.exception(30), KeyboardInterrupt)


def test_a_paused_fit_goes_on_and_its_end_is_told_to_watchers(config: Callable[..., SftConfig]) -> None:
    with running(config()) as (client, _told, outcome):
        stream = client.metrics(from_step=3)
        assert next(stream).step == 3
        client.resume()
        assert [row.step for row in stream] == list(range(4, 41))
        assert outcome.result(60) is None


def test_a_reward_model_run_says_what_it_is(tmp_path: Path) -> None:
    data, port_file = tmp_path / "rankings.jsonl", tmp_path / "port.json"
    data.write_text('{"chosen": " so good", "rejected": " so bad"}\n' * 4)
    seen: list[Any] = []

    def look(done: int, total: int, metrics: Mapping[str, float]) -> None:
        with TrainerClient(f"127.0.0.1:{json.loads(port_file.read_text())['port']}") as client:
            seen.append(client.status())

    values = {"data": (data,), "output": tmp_path / "run", "batch_size": 2, "max_sequence_tokens": 32}
    train_reward_model(
        RewardModelConfig.model_validate(values | {"server": {"port_file": port_file}}), progress=look
    )
    assert [(status.task, status.state, status.total_steps) for status in seen] == [
        ("reward-model", "running", 2)
    ] * 2
    assert not port_file.exists()


def test_a_fit_writes_tensorboard_files_unless_told_not_to(
    config: Callable[..., SftConfig], tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_sft(config(epochs=1))
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4]
    train_sft(config(epochs=1, output=tmp_path / "other", tensorboard=False))
    assert not (tmp_path / "other" / "tensorboard").exists()


def test_a_folder_belongs_to_one_run_at_a_time(config: Callable[..., SftConfig], tmp_path: Path) -> None:
    with RunDir(tmp_path / "run"), pytest.raises(RunInUseError, match="is being written by process"):
        train_sft(config())
