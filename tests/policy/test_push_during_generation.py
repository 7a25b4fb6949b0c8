"""Pushes while 32 completions run: none fails, none waits, and every token is its version's."""

import asyncio
import time
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pilothouse.policy import chores, engine
from pilothouse.policy.engine import PIECES_SHARE, PolicyEngine
from pilothouse.policy.requests import Completed, Span, Update, Version
from pilothouse.policy.sampling import Sampling
from pilothouse.v1 import policy_pb2, weights_pb2

from .conftest import engine_weights, make_engine, model_of, random_prompts, request_of
from .oracle import mixed_oracle, plain_oracle
from .pushing import arrays_of
from .served import serving

ROWS, NEW_TOKENS = 32, 160
PUSHES = 3
ORACLES = {
    weights_pb2.KV_POLICY_KEEP: mixed_oracle,
    weights_pb2.KV_POLICY_RECOMPUTE: plain_oracle,
}


class Pace:
    """Makes pushes fall into the middle of a generation, however fast the machine is.

    While a push is under way, a decode step is taken only when the push has left the engine something to do
    beside it.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[int] = []
        """How many completions got a token, by decode step."""
        self._pushing, self._begin_at, self._begun = False, NEW_TOKENS, asyncio.Event()
        loop, decode = asyncio.get_running_loop(), PolicyEngine._decode

        def paced(engine: PolicyEngine) -> None:
            if engine._scheduler.running:
                self.rows.append(len(engine._scheduler.running))
                if len(self.rows) >= self._begin_at:
                    self._pushing, self._begin_at = True, NEW_TOKENS
                    loop.call_soon_threadsafe(self._begun.set)
                while self._pushing and not (engine._chores or engine._commands or engine._closing):
                    time.sleep(0.001)
            decode(engine)

        monkeypatch.setattr(PolicyEngine, "_decode", paced)

    @asynccontextmanager
    async def push_after(self, steps: int) -> AsyncIterator[None]:
        """``async with push_after(20)``: the block begins twenty decode steps from now."""
        self._begin_at = len(self.rows) + steps
        await self._begun.wait()
        self._begun.clear()
        yield
        self._pushing = False


def completed(entry: policy_pb2.Completion) -> Completed:
    return Completed(
        entry.prompt_index,
        entry.sample_index,
        np.frombuffer(entry.tokens.data, np.int32),
        np.frombuffer(entry.logprobs.data, np.float32),
        "length",
        tuple(Span(Version(s.epoch, s.version), s.start, s.end) for s in entry.version_spans),
        entry.prompt_tokens,
    )


@pytest.mark.parametrize("kv_policy", ORACLES, ids=["keep", "recompute"])
async def test_pushes_during_32_running_generations_hold_up_none_and_fail_none(
    monkeypatch: pytest.MonkeyPatch, kv_policy: Any
) -> None:
    pace = Pace(monkeypatch)
    prompts = random_prompts(ROWS, seed=21)
    async with asyncio.timeout(120), serving(max_running=ROWS) as service:
        sampled = service.generate(
            prompts, seeds=list(range(ROWS)), max_new_tokens=NEW_TOKENS, ignore_eos=True
        )
        generation = asyncio.create_task(sampled)
        for version in range(1, PUSHES + 1):
            async with pace.push_after(20):
                await service.push(arrays_of("llama-tied", version), version=version, kv_policy=kv_policy)
        entries = [completed(entry) for entry in await generation]
    # All ran at the same time and every step brought each a token: between two tokens lies one step.
    assert pace.rows == [ROWS] * (NEW_TOKENS - 1)
    versions = {
        Version(int(version > 0), version): engine_weights(model_of("llama-tied", version))
        for version in range(PUSHES + 1)
    }
    for entry in entries:
        assert [span.version for span in entry.spans] == list(versions)
        assert (entry.spans[0].start, entry.spans[-1].end) == (0, NEW_TOKENS)
        assert all(one.end == two.start for one, two in pairwise(entry.spans))
        expected = ORACLES[kv_policy](versions, prompts[entry.prompt_index], entry)
        np.testing.assert_allclose(entry.logprobs, expected, atol=1e-4)


@pytest.mark.parametrize(("piece_seconds", "most"), [(1.0, 5), (2.0, 3), (12.0, 1)])
def test_between_two_steps_pieces_take_half_a_step_or_are_a_single_one(
    monkeypatch: pytest.MonkeyPatch, piece_seconds: float, most: int
) -> None:
    """In the time of a clock that only decode steps (ten seconds each) and pieces move."""
    now = 0.0
    happened: list[str] = []
    clock = SimpleNamespace(perf_counter=lambda: now)
    for module in (chores, engine):
        monkeypatch.setattr(module, "time", clock)
    policy = make_engine(engine_weights(model_of("llama-tied")), slots=ROWS)
    decode = policy.runner.decode

    def step(running: Any) -> Any:
        nonlocal now
        now += 10.0
        happened.append("step")
        return decode(running)

    def pieces() -> Generator[None, None, None]:
        nonlocal now
        for _ in range(60):
            now += piece_seconds
            happened.append("piece")
            yield

    def start_work(update: Update) -> None:
        if len(happened) == 10:
            policy.in_pieces(pieces())

    monkeypatch.setattr(policy.runner, "decode", step)
    request, collector = request_of(
        random_prompts(ROWS), Sampling(max_new_tokens=100), stream=True, on_update=start_work
    )
    policy.submit(request)
    policy.start()
    collector.result()
    policy.close()
    between = [len(part) for part in "".join("." if what == "step" else "p" for what in happened).split(".")]
    assert sum(between) == 60
    assert max(between) == most
    assert PIECES_SHARE == 0.5
