"""Every service on the tiny model over mutual TLS: the numbers of plaintext, and no strangers."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from tests.certificates import Authority, settings
from tests.policy.pushing import arrays_of

from pilothouse.client import (
    AsyncFeedbackClient,
    AsyncPolicyClient,
    AsyncReferenceClient,
    AsyncRewardClient,
    AsyncRewardModelsClient,
    AsyncTrainerClient,
    AsyncWeightsClient,
    FeedbackClient,
    PolicyClient,
    QueueSettings,
    ReferenceClient,
    RewardClient,
    RewardModelsClient,
    SamplingParams,
    TrainerClient,
    WeightsClient,
)
from pilothouse.config import parse
from pilothouse.errors import UnavailableError
from pilothouse.feedback.build import build as build_feedback
from pilothouse.feedback.config import FeedbackConfig
from pilothouse.policy.config import PolicyConfig
from pilothouse.policy.service import build as build_policy
from pilothouse.reference.build import build as build_reference
from pilothouse.reference.config import ReferenceConfig
from pilothouse.reward.build import build as build_reward
from pilothouse.reward.config import RewardConfig
from pilothouse.server import ServerConfig
from pilothouse.tls import adopt
from pilothouse.trainer.control import RunControl
from pilothouse.trainer.servicer import serving

pytestmark = pytest.mark.usefixtures("no_identity")

PROMPTS = [np.arange(10, 18, dtype=np.int32), np.arange(30, 35, dtype=np.int32)]
QUIET = {"http_port": -1}
CLIENTS = {
    "policy": (PolicyClient, AsyncPolicyClient),
    "weights": (WeightsClient, AsyncWeightsClient),
    "reward": (RewardClient, AsyncRewardClient),
    "reward-models": (RewardModelsClient, AsyncRewardModelsClient),
    "reference": (ReferenceClient, AsyncReferenceClient),
    "feedback": (FeedbackClient, AsyncFeedbackClient),
    "trainer": (TrainerClient, AsyncTrainerClient),
}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "certificates")


@asynccontextmanager
async def services(folder: Path) -> AsyncIterator[Mapping[str, str]]:
    """Every service, with the identity that this process has; yields server -> host:port."""
    folder.mkdir()
    (folder / "models").mkdir()
    policy = {"model": "tiny", "threads": 1, "max_sequence_tokens": 128, "server": QUIET}
    reward = {"models_folder": folder / "models", "server": QUIET}
    feedback = {"database": f"sqlite:///{folder / 'feedback.db'}", "server": QUIET, "page": {"port": -1}}
    async with AsyncExitStack() as stack:
        builds: list[Any] = [
            build_policy(parse(PolicyConfig, policy, section="policy"), registry=CollectorRegistry()),
            build_reward(parse(RewardConfig, reward | {"backend": "rules"}, section="reward")),
            build_reference(
                parse(ReferenceConfig, {"model": "tiny", "threads": 1, "server": QUIET}, section="reference")
            ),
            build_feedback(parse(FeedbackConfig, feedback, section="feedback")),
        ]
        targets = {}
        for build in builds:
            for server in await stack.enter_async_context(build):
                await server.start()
                stack.push_async_callback(server.abort)
                targets[server.name] = f"127.0.0.1:{server.port}"
        control = RunControl("run", "ppo", total_steps=3)
        trainer = stack.enter_context(serving(control, ServerConfig(http_port=-1, drain_seconds=0)))
        yield targets | {"trainer": f"127.0.0.1:{trainer.port}"}


def numbers(targets: Mapping[str, str]) -> dict[str, Any]:
    """Asks every service something that it computes."""
    found: dict[str, Any] = {}
    with (
        PolicyClient(targets["policy"]) as policy,
        WeightsClient(targets["weights"]) as weights,
        ReferenceClient(targets["reference"]) as reference,
        RewardClient(targets["reward"]) as reward,
    ):
        pushed = weights.push(
            arrays_of("llama-tied", seed=5), run="run", epoch=1, version=1, probes=[PROMPTS[0].tolist()]
        )
        found["probes"] = pushed.probe_logprobs.tobytes()
        completions = policy.generate(PROMPTS, SamplingParams(max_new_tokens=12), n=2, seeds=[3, 4])
        found["tokens"] = [completion.tokens.tobytes() for completion in completions]
        found["behaviour"] = [completion.logprobs.tobytes() for completion in completions]
        rows = [np.concatenate([PROMPTS[0], completion.tokens]) for completion in completions]
        found["reference"] = [
            row.tobytes() for row in reference.logprobs(rows, [len(PROMPTS[0])] * len(rows)).rows
        ]
        found["scores"] = reward.score(["a", "b"], ["one two", "three"]).values.tobytes()
    with FeedbackClient(targets["feedback"]) as feedback:
        feedback.put_queue(QueueSettings(name="q", kind="ranking"))
        found["queues"] = [queue.settings.name for queue in feedback.queues()]
    with RewardModelsClient(targets["reward-models"]) as models, TrainerClient(targets["trainer"]) as trainer:
        found["models"] = models.models().serving.reward_version
        found["run"] = trainer.status().run
    return found


async def test_mutual_tls_changes_no_number(authority: Authority, tmp_path: Path) -> None:
    async with services(tmp_path / "plain") as targets:
        plain = await asyncio.to_thread(numbers, targets)
    adopt(overrides=settings(authority.issue("pilothouse")), environment={})
    async with services(tmp_path / "secured") as targets:
        assert await asyncio.to_thread(numbers, targets) == plain


async def test_no_service_answers_a_stranger(authority: Authority, tmp_path: Path) -> None:
    identity = settings(authority.issue("pilothouse"))
    adopt(overrides=identity, environment={})
    async with services(tmp_path / "secured") as targets:
        assert set(targets) == set(CLIENTS)
        for name, kinds in CLIENTS.items():
            async with kinds[1](targets[name]) as known:
                await known.wait_ready(30)
            adopt(environment={})
            with (
                kinds[0](targets[name]) as stranger,
                pytest.raises(UnavailableError, match=r"that this process has a section \[tls\]"),
            ):
                await asyncio.to_thread(stranger.wait_ready, 0.2)
            adopt(overrides=identity, environment={})
