"""A whole policy service on loopback ports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from prometheus_client import CollectorRegistry

from pilothouse import tensors
from pilothouse.policy.config import PolicyConfig
from pilothouse.policy.service import build
from pilothouse.server import Server
from pilothouse.v1 import policy_pb2, policy_pb2_grpc, weights_pb2, weights_pb2_grpc

from .pushing import Arrays, begin_request, chunks, payload, stream


@dataclass
class Service:
    policy: policy_pb2_grpc.PolicyServiceAsyncStub
    weights: weights_pb2_grpc.WeightsServiceAsyncStub
    servers: list[Server]
    registry: CollectorRegistry
    channel: grpc.aio.Channel

    async def generate(self, prompts: list[Any], n: int = 1, seeds: list[int] | None = None, **sampling: Any):
        """Returns the completions in order of prompt and sample."""
        request = generate_request(prompts, n=n, seeds=seeds, **sampling)
        events = [event async for event in self.policy.Generate(request)]
        completions = [event.completion for event in events if event.HasField("completion")]
        return sorted(completions, key=lambda entry: (entry.prompt_index, entry.sample_index))

    async def push(self, arrays: Arrays, **options: Any) -> weights_pb2.CommitPushResponse:
        """Begins, uploads and commits."""
        commit = {key: options.pop(key) for key in ("kv_policy", "probes") if key in options}
        begun = await self.weights.BeginPush(begin_request(arrays, **options))
        data = payload(arrays, options.get("unchanged", ()))
        if data:
            await self.weights.UploadPush(stream(chunks(begun.push_id, data)))
        return await self.weights.CommitPush(weights_pb2.CommitPushRequest(push_id=begun.push_id, **commit))

    async def version(self) -> tuple[int, int]:
        model = await self.policy.GetModel(policy_pb2.GetModelRequest())
        return model.epoch, model.version


def generate_request(
    prompts: list[Any],
    n: int = 1,
    seeds: list[int] | None = None,
    stream_tokens: bool = False,
    **sampling: Any,
) -> policy_pb2.GenerateRequest:
    request = policy_pb2.GenerateRequest(
        n=n, sampling=policy_pb2.SamplingParams(**sampling), stream_tokens=stream_tokens
    )
    if prompts and isinstance(prompts[0], str):
        request.texts.texts.extend(prompts)
    else:
        request.tokens.CopyFrom(tensors.encode_sequences(prompts))
    if seeds is not None:
        request.seeds.CopyFrom(tensors.encode(seeds, np.int64))
    return request


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Service]:
    registry = CollectorRegistry()
    settings = {"model": "tiny", "threads": 1, "max_running": 8} | settings
    async with build(PolicyConfig.model_validate(settings), registry=registry) as servers:
        for server in servers:
            await server.start()
        targets = [f"127.0.0.1:{server.port}" for server in servers]
        async with grpc.aio.insecure_channel(targets[0]) as one, grpc.aio.insecure_channel(targets[1]) as two:
            yield Service(
                policy_pb2_grpc.PolicyServiceStub(one),
                weights_pb2_grpc.WeightsServiceStub(two),
                list(servers),
                registry,
                one,
            )
        for server in servers:
            await server.abort()


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Returns the machine reason of a refused call."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    next(detail for detail in status.details if detail.Is(info.DESCRIPTOR)).Unpack(info)
    return info.reason
