import asyncio
import json
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import pytest
from tests.certificates import Authority, section, settings

from pilothouse.client import AsyncPolicyClient
from pilothouse.v1 import policy_pb2, policy_pb2_grpc

PROGRAM = Path(__file__).with_name("small_service.py")
Start = Callable[..., Awaitable[tuple[Process, int]]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts the service in a process of its own; returns it and its port."""
    processes: list[Process] = []

    async def started(*settings: str) -> tuple[Process, int]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(PROGRAM),
            *(part for setting in settings for part in ("--set", _full(setting))),
            stderr=asyncio.subprocess.PIPE,
        )
        processes.append(process)
        assert process.stderr is not None
        async with asyncio.timeout(60):
            line = json.loads(await process.stderr.readline())
        assert line["event"] == "listening"
        return process, line["port"]

    yield started
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def _full(setting: str) -> str:
    return setting if setting.startswith("tls.") else f"small.{setting}"


async def test_sigterm_lets_a_running_stream_finish_and_exits_cleanly(start: Start) -> None:
    process, port = await start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        answers = []
        async for answer in policy_pb2_grpc.PolicyServiceStub(channel).Generate(
            policy_pb2.GenerateRequest(n=40)
        ):
            if not answers:
                process.send_signal(signal.SIGTERM)
            answers.append(answer.completion.prompt_index)
    assert answers == list(range(40))
    _, logs = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    events = [json.loads(line)["event"] for line in logs.splitlines()]
    assert events == ["draining", "stopped"]


async def test_a_second_signal_ends_a_drain(start: Start) -> None:
    process, port = await start("server.drain_seconds=600")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = policy_pb2_grpc.PolicyServiceStub(channel).Generate(policy_pb2.GenerateRequest(n=10**6))
        await call.read()
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert json.loads(await process.stderr.readline())["event"] == "draining"
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--set", "small.modle=x"], 2, "unknown key small.modle; did you mean 'model'?"),
        (["--set", "small.server.host=0.0.0.0"], 2, "allow_insecure"),
        (["--config", "absent.toml"], 2, "cannot read configuration file absent.toml"),
        (["--set", "small.model=contradictory"], 2, "small: model and server do not go together"),
        (["--set", "small.model=elsewhere"], 1, "small: no model at elsewhere; give a folder"),
    ],
)
def test_a_wrong_setting_is_one_line_and_an_exit_status(
    arguments: list[str], status: int, message: str
) -> None:
    result = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == status
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_wrong_certificate_is_one_line_and_an_exit_status(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = authority.issue("service").model_copy(update={"key_file": authority.issue("other").key_file})
    file = tmp_path / "pilothouse.toml"
    file.write_text(section(tls))
    result = subprocess.run(
        [sys.executable, str(PROGRAM), "--config", str(file)], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 2
    assert f"small: tls.key_file: {tls.key_file} is not the key of {tls.cert_file}" in result.stderr
    assert result.stderr.count("\n") == 1


async def test_with_a_certificate_it_may_be_reached_from_other_machines(start: Start, tmp_path: Path) -> None:
    tls = Authority(tmp_path).issue("service")
    process, port = await start("server.host=0.0.0.0", *settings(tls))
    async with AsyncPolicyClient(f"127.0.0.1:{port}", tls=tls) as client:
        assert (await client.model()).model == "small"
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 60) == 0


def test_a_configuration_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "pilothouse.toml"
    file.write_text("[small]\nmodel = 'from-the-file'\n")
    result = subprocess.run(
        [sys.executable, str(PROGRAM), "--config", str(file)], capture_output=True, text=True, timeout=60
    )
    assert "from-the-file" in result.stderr
