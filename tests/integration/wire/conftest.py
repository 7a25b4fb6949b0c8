"""The three services in this process, on real ports, so that a test sees what reaches them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from pilothouse.config import parse
from pilothouse.policy import service as policy_service
from pilothouse.policy.config import PolicyConfig
from pilothouse.policy.servicer import PolicyServicer
from pilothouse.reference import build as reference_build
from pilothouse.reference.config import ReferenceConfig
from pilothouse.reward import build as reward_build
from pilothouse.reward.config import RewardConfig
from pilothouse.reward.servicer import RewardServicer
from pilothouse.v1 import policy_pb2, reward_pb2

QUIET = {"server": {"http_port": -1}}
POLICY = QUIET | {"model": "tiny", "threads": 1, "max_sequence_tokens": 128}
REWARD = QUIET | {"backend": "rules", "tokenizer": "tiny"}
REFERENCE = QUIET | {"model": "tiny", "threads": 1}


@dataclass(frozen=True)
class Requests:
    """What has reached the services."""

    generate: list[policy_pb2.GenerateRequest] = field(default_factory=list)
    score: list[reward_pb2.ScoreRequest] = field(default_factory=list)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Requests:
    seen = Requests()
    generate, score = PolicyServicer.Generate, RewardServicer.Score

    async def seen_generate(
        self: PolicyServicer, request: policy_pb2.GenerateRequest, context: Any
    ) -> AsyncIterator[policy_pb2.GenerateResponse]:
        seen.generate.append(request)
        async for response in generate(self, request, context):
            yield response

    async def seen_score(
        self: RewardServicer, request: reward_pb2.ScoreRequest, context: Any
    ) -> reward_pb2.ScoreResponse:
        seen.score.append(request)
        return await score(self, request, context)

    monkeypatch.setattr(PolicyServicer, "Generate", seen_generate)
    monkeypatch.setattr(RewardServicer, "Score", seen_score)
    return seen


@pytest.fixture
async def targets(requests: Requests) -> AsyncIterator[Mapping[str, str]]:
    """Server -> host:port."""
    async with AsyncExitStack() as stack:
        parsed = (
            parse(PolicyConfig, POLICY, section="policy"),
            parse(RewardConfig, REWARD, section="reward"),
            parse(ReferenceConfig, REFERENCE, section="reference"),
        )
        servers = [
            *await stack.enter_async_context(policy_service.build(parsed[0], registry=CollectorRegistry())),
            *await stack.enter_async_context(reward_build.build(parsed[1])),
            *await stack.enter_async_context(reference_build.build(parsed[2])),
        ]
        for server in servers:
            await server.start()
            stack.push_async_callback(server.abort)
        yield {server.name: f"127.0.0.1:{server.port}" for server in servers}
