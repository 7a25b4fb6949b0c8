import asyncio

import pytest

from pilothouse.errors import DrainingError, QueueFullError, UnavailableError
from pilothouse.server.limits import Limiter


class Crowd:
    """Calls that hold a place until they are let go."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._gates: dict[str, asyncio.Event] = {}
        self.running: list[str] = []

    def arrive(self, name: str) -> "asyncio.Task[None]":
        self._gates[name] = asyncio.Event()
        return asyncio.create_task(self._call(name))

    def leave(self, name: str) -> None:
        self._gates[name].set()

    async def _call(self, name: str) -> None:
        async with self._limiter.slot():
            self.running.append(name)
            await self._gates[name].wait()
            self.running.remove(name)


async def settle() -> None:
    """Lets every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_held_limiter_lets_nobody_in_until_it_is_released() -> None:
    limiter = Limiter("test", max_running=1, max_waiting=1)
    limiter.hold()
    with pytest.raises(UnavailableError, match="still loading"):
        async with limiter.slot():
            pass
    limiter.release()
    async with limiter.slot():
        pass


async def test_places_are_handed_on_in_order_of_arrival() -> None:
    crowd = Crowd(Limiter("test", max_running=1, max_waiting=2))
    tasks = [crowd.arrive(name) for name in "abc"]
    await settle()
    seen = []
    for name in "abc":
        seen += crowd.running
        crowd.leave(name)
        await settle()
    assert seen == ["a", "b", "c"]
    await asyncio.gather(*tasks)


async def test_more_than_may_wait_are_refused_with_a_hint() -> None:
    crowd = Crowd(Limiter("test", max_running=1, max_waiting=1))
    tasks = [crowd.arrive(name) for name in "ab"]
    await settle()
    with pytest.raises(QueueFullError, match="runs 1 calls and 1 wait") as caught:
        await crowd.arrive("c")
    assert caught.value.retry_after_seconds is not None
    assert 0 < caught.value.retry_after_seconds < 60
    for name in "ab":
        crowd.leave(name)
    await asyncio.gather(*tasks)


async def test_a_call_that_stops_waiting_gives_its_turn_away() -> None:
    crowd = Crowd(Limiter("test", max_running=1, max_waiting=2))
    first, second, third = (crowd.arrive(name) for name in "abc")
    await settle()
    second.cancel()
    await settle()
    crowd.leave("a")
    await settle()
    assert crowd.running == ["c"]
    crowd.leave("c")
    await asyncio.gather(first, third)


async def test_a_place_handed_to_a_call_that_just_left_is_not_lost() -> None:
    limiter = Limiter("test", max_running=1, max_waiting=1)
    crowd = Crowd(limiter)
    first, second = crowd.arrive("a"), crowd.arrive("b")
    await settle()
    crowd.leave("a")
    await asyncio.sleep(0)  # the place is b's, but b has not woken yet
    second.cancel()
    await settle()
    async with asyncio.timeout(10):
        await limiter.idle()
        async with limiter.slot():
            pass
    await first


async def test_draining_refuses_new_and_waiting_calls_and_lets_running_ones_end() -> None:
    limiter = Limiter("test", max_running=1, max_waiting=1)
    crowd = Crowd(limiter)
    running, waiting = crowd.arrive("a"), crowd.arrive("b")
    await settle()
    limiter.drain()
    with pytest.raises(DrainingError):
        await waiting
    with pytest.raises(DrainingError):
        await crowd.arrive("c")
    idle = asyncio.create_task(limiter.idle())
    await settle()
    assert not idle.done()
    crowd.leave("a")
    await asyncio.gather(running, idle)


async def test_an_unused_limiter_is_idle() -> None:
    await asyncio.wait_for(Limiter("test", max_running=1, max_waiting=0).idle(), 10)
