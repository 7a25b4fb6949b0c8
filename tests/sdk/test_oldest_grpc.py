"""The base install with the oldest gRPC allowed and protobuf 6: stubs, a call, an error that comes back."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GRPC = "1.81.1"

PROGRAM = """
import asyncio

import google.protobuf
import grpc

from pilothouse.client import AsyncPolicyClient
from pilothouse.errors import NotFoundError
from pilothouse.server import Server, ServerConfig
from pilothouse.v1 import policy_pb2, policy_pb2_grpc
from pilothouse.v1 import reference_pb2_grpc, reward_pb2_grpc, trainer_pb2_grpc, weights_pb2_grpc


class Policy(policy_pb2_grpc.PolicyServiceServicer):
    async def GetModel(self, request, context):
        return policy_pb2.GetModelResponse(model="old")

    async def Logprobs(self, request, context):
        raise NotFoundError("no weights here")


async def main():
    server = Server(ServerConfig(reflection=True), "old")
    policy_pb2_grpc.add_PolicyServiceServicer_to_server(Policy(), server.grpc)
    server.services("pilothouse.v1.PolicyService")
    await server.start()
    async with AsyncPolicyClient(f"127.0.0.1:{server.port}") as client:
        await client.wait_ready(30)
        assert (await client.model()).model == "old"
        try:
            await client.logprobs([[1, 2]], [1])
        except NotFoundError as error:
            assert str(error) == "no weights here"
        else:
            raise AssertionError("the error did not arrive")
    await server.stop()
    print(google.protobuf.__version__, grpc.__version__)


asyncio.run(main())
"""


@pytest.mark.slow
def test_the_base_install_works_with_protobuf_6(require: Callable[[object, str], None]) -> None:
    environment = ROOT / ".venvs" / "protobuf6"
    python = environment / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    base = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    pins = [f"{name.split('>=')[0]}=={GRPC}" for name in base if name.startswith("grpcio")]
    installed = subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", *base, *pins, "protobuf<7"],
        capture_output=True,
        text=True,
    )
    require(installed.returncode == 0, f"a package index ({installed.stderr[-300:]})")
    result = subprocess.run(
        [str(python), "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'protos'}:{ROOT / 'sdk'}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    protobuf, grpc = result.stdout.split()[-2:]
    assert protobuf.startswith("6.")
    assert grpc == GRPC
