import threading
from collections.abc import Iterator

import pytest

from pilothouse.client import TrainerClient
from pilothouse.errors import PreconditionError
from pilothouse.server import ServerConfig
from pilothouse.trainer.control import RunControl, Saved
from pilothouse.trainer.servicer import serving


def save() -> Saved:
    return "checkpoints/step_00000002", 2


@pytest.fixture
def control() -> RunControl:
    return RunControl("test", "ppo", total_steps=5)


@pytest.fixture
def client(control: RunControl) -> Iterator[TrainerClient]:
    config = ServerConfig(http_port=-1, drain_seconds=1)
    with serving(control, config) as server, TrainerClient(f"127.0.0.1:{server.port}") as client:
        yield client
        if not control.ended:
            control.finish(save())  # ends open streams, so that the server can drain


def test_status_says_where_the_run_stands(client: TrainerClient, control: RunControl) -> None:
    control.between_steps(save)
    control.add_row(1, {"objective/kl": 0.5})
    control.update(epoch=3, version=1, checkpoint="checkpoints/step_00000001")
    status = client.status()
    assert (status.run, status.task, status.state) == ("test", "ppo", "running")
    assert (status.step, status.total_steps, status.epoch, status.version) == (1, 5, 3, 1)
    assert status.checkpoint == "checkpoints/step_00000001"


def test_metrics_stream_past_and_new_steps_until_the_end(client: TrainerClient, control: RunControl) -> None:
    control.add_row(1, {"objective/kl": 0.5})
    control.add_row(2, {"objective/kl": 0.75})
    stream = client.metrics(from_step=2)
    first = next(stream)
    assert (first.step, first.metrics) == (2, {"objective/kl": 0.75})
    control.add_row(3, {"objective/kl": 1.0})
    assert next(stream).step == 3
    control.finish(save())
    assert list(stream) == []


def test_many_watchers_and_those_who_leave_do_not_disturb(client: TrainerClient, control: RunControl) -> None:
    control.add_row(1, {"eps": 1.0})
    leaver = client.metrics()
    next(leaver)
    leaver.close()  # type: ignore[attr-defined]
    watchers = [client.metrics() for _ in range(20)]
    assert [next(watcher).step for watcher in watchers] == [1] * 20
    control.add_row(2, {"eps": 1.0})
    assert [next(watcher).step for watcher in watchers] == [2] * 20
    control.finish(save())
    assert [list(watcher) for watcher in watchers] == [[]] * 20


def test_pause_checkpoint_resume_and_stop_act_between_steps(
    client: TrainerClient, control: RunControl
) -> None:
    client.pause()
    steps: list[int] = []

    def loop() -> None:
        while control.between_steps(save):
            steps.append(len(steps) + 1)
            control.add_row(len(steps), {"eps": 1.0})
        control.finish(save())

    thread = threading.Thread(target=loop)
    thread.start()
    saved = client.checkpoint()
    assert (saved.checkpoint, saved.step) == save()
    assert client.status().state == "paused"
    assert steps == []
    client.resume()
    assert next(client.metrics()).step == 1
    assert client.stop() == save()[0]
    thread.join()
    assert client.status().state == "finished"
    assert client.stop() == save()[0], "stopping twice is not an error"
    with pytest.raises(PreconditionError, match="ended"):
        client.checkpoint()
