"""How a replica that starts, or was cut off, comes to serve what its peers serve.

It asks every peer what serves there and what is on its way, copies the newest weights from one of them, and
starts over until nobody is ahead. The trainer pushes to it meanwhile like to any other replica, which is as
good. Only then does it take calls.

What an operator has taken back does not come back that way: each replica tells what it has heard of, and a
peer that still serves such weights, or has loaded them from a checkpoint, is not followed.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress

import structlog

from pilothouse.errors import PilothouseError, UnavailableError
from pilothouse.policy.config import CatchUpConfig
from pilothouse.policy.peers import Peer, Peers
from pilothouse.policy.push import Offer
from pilothouse.policy.requests import Version
from pilothouse.policy.weights import WeightTransactions
from pilothouse.policy.weights_codec import decode_manifest, decode_origin
from pilothouse.v1 import weights_pb2

_LOOK_SECONDS = 0.2
_COPY_SECONDS = 300.0
"""For one copy, at least: it may be waited for less long, and is under way all the same."""
_RUN = "peer"
_ANY = Version(-1, -1)

_log = structlog.get_logger(__name__)

Serve = Callable[[bool], Awaitable[None]]


class CatchUp:
    """Follows the peers of one replica."""

    def __init__(
        self,
        transactions: WeightTransactions,
        config: CatchUpConfig,
        *,
        instance: str,
        published: Version,
    ) -> None:
        """Prepares; nobody is asked yet.

        Args:
            transactions: Of this replica.
            config: Where the peers are.
            instance: Names this process, which may find itself among its peers.
            published: What the run's trainer has given last, or was about to give, as far as its directory
                tells.

        Raises:
            ConfigError: A peer's address is none.
        """
        self._transactions = transactions
        self._config = config
        self._published = published
        self._peers = Peers(config.peers, instance)

    async def catch_up(self) -> None:
        """Returns when nobody known has, or is being given, newer weights than serve here.

        It looks twice: a trainer that asked everybody just before this replica answered may be about to push.

        Raises:
            ConfigError: This process's certificate files cannot be used.
        """
        started, failed = time.monotonic(), set[str]()
        was_current = not self._config.peers
        while True:
            goal = await self._goal()
            if goal is None:
                if was_current:
                    break
                was_current = True
                await asyncio.sleep(_LOOK_SECONDS)
                continue
            was_current = False
            peer, version = goal
            if peer is not None and peer.place.address not in failed:
                try:
                    await self._copy(peer)
                except Exception as error:  # not ours either, as where memory is short: later it may not be
                    problem = str(error) or repr(error)
                    _log.warning("weights could not be copied", peer=peer.place.address, problem=problem)
                    failed.add(peer.place.address)
                continue
            if time.monotonic() - started > self._config.wait_seconds:
                _log.warning("nobody brings the newest weights; serving older ones", newest=tuple(version))
                return
            failed.clear()
            await asyncio.sleep(_LOOK_SECONDS)
        _log.info("weights are current", version=tuple(self._current))

    async def follow(self, serve: Serve) -> None:
        """Keeps looking until cancelled: while a peer is ahead, this replica takes no calls."""
        serving = True
        while True:
            await asyncio.sleep(self._config.check_seconds)
            try:
                goal = await self._goal()
                if goal is not None and goal[0] is not None:
                    _log.warning("peers serve other weights; catching up", version=tuple(self._current))
                    serving = False
                    await serve(False)
                    await self.catch_up()
                if not serving:
                    await serve(True)
                    serving = True
            except Exception:  # nobody awaits this: it must outlive whatever happens in one round
                _log.exception("peers cannot be followed now; trying again")

    async def close(self) -> None:
        """Closes the channels to the peers."""
        await self._peers.close()

    @property
    def _current(self) -> Version:
        return self._transactions.current.version

    def _is_brought(self, version: Version) -> bool:
        """Returns whether an open push brings these weights, or newer ones."""
        arriving = self._transactions.arriving
        return arriving is not None and arriving >= version

    async def _goal(self) -> tuple[Peer | None, Version] | None:
        """Returns the version that should serve here and does not, and who has it; None if there is none."""
        peers = await self._peers.ask()
        taken_back = max([self._transactions.taken_back, *(peer.taken_back for peer in peers)])
        sound = [peer for peer in peers if peer.serving > taken_back or peer.taken_back == taken_back]
        holder = max(sound, key=lambda peer: peer.serving, default=None)
        if holder is not None and holder.serving == self._current:
            self._transactions.note_taken_back(holder.taken_back)  # whoever starts next may ask only this one
        elif holder is not None and (holder.serving > self._current or self._is_undone(taken_back)):
            return (None if self._is_brought(holder.serving) else holder), holder.serving
        newest = max([self._published, *(peer.arriving for peer in peers)])
        return (None, newest) if newest > max(self._current, taken_back) else None

    def _is_undone(self, taken_back: Version) -> bool:
        """Returns whether what serves here has been taken back by peers.

        What a trainer has pushed here is not: it may have brought the same version once more.
        """
        here = self._transactions
        return not here.pushed and here.taken_back < taken_back >= self._current

    async def _copy(self, peer: Peer) -> None:
        """Copies what a peer serves, as a push of its own."""
        started = time.monotonic()
        above = self._current if peer.serving > self._current else _ANY
        longest = max(self._config.wait_seconds, _COPY_SECONDS)
        async with aclosing(self._peers.fetch(peer, above, longest)) as stream:
            await self._store(stream)
        seconds = round(time.monotonic() - started, 2)
        address = peer.place.address
        _log.info("weights copied", peer=address, version=tuple(self._current), seconds=seconds)

    async def _store(self, stream: AsyncIterator[weights_pb2.FetchWeightsResponse]) -> None:
        push_id = ""
        try:
            async for message in stream:
                if message.HasField("weights"):
                    push_id = (await self._transactions.begin(_offer(message.weights))).push_id
                elif push_id:
                    chunk = message.chunk
                    await self._transactions.upload(push_id, chunk.offset, chunk.data, chunk.crc32)
            if not push_id:
                raise UnavailableError("the peer sent nothing")
            await self._transactions.commit(push_id, None, [])
        except BaseException:
            if push_id:
                with suppress(PilothouseError):  # it has ended already
                    self._transactions.abort(push_id)
            raise


def _offer(head: weights_pb2.ServedWeights) -> Offer:
    return Offer(
        run=_RUN,
        version=Version(head.epoch, head.version),
        parent=Version(0, 0),
        manifest=decode_manifest(head.manifest),
        origin=decode_origin(head),
    )
