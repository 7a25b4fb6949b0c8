"""A service as its ``__main__`` makes it; run by test_main.py as a process of its own."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pilothouse.config import Config
from pilothouse.errors import ConfigError, ModelNotFoundError
from pilothouse.server import Server, ServerConfig, serve_main
from pilothouse.v1 import policy_pb2, policy_pb2_grpc


class SmallConfig(Config):
    server: ServerConfig = ServerConfig()
    model: str = "tiny"


class Small(policy_pb2_grpc.PolicyServiceServicer):
    async def GetModel(self, request: object, context: Any) -> policy_pb2.GetModelResponse:
        return policy_pb2.GetModelResponse(model="small")

    async def Generate(
        self, request: policy_pb2.GenerateRequest, context: Any
    ) -> AsyncIterator[policy_pb2.GenerateResponse]:
        for index in range(request.n):
            yield policy_pb2.GenerateResponse(completion=policy_pb2.Completion(prompt_index=index))
            await asyncio.sleep(0.02)


@asynccontextmanager
async def build(config: SmallConfig) -> AsyncIterator[Sequence[Server]]:
    if config.model == "contradictory":
        raise ConfigError("model and server do not go together")
    if config.model != "tiny":
        raise ModelNotFoundError(f"no model at {config.model}; give a folder")
    server = Server(config.server, "small")
    policy_pb2_grpc.add_PolicyServiceServicer_to_server(Small(), server.grpc)
    yield [server]


if __name__ == "__main__":
    sys.exit(serve_main("small", SmallConfig, build))
