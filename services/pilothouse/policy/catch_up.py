"""How a replica that starts, or was cut off, comes to serve what its peers serve.

It asks every peer what serves there and what is on its way, copies the newest weights from one of them, and
starts over until nobody is ahead. The trainer pushes to it meanwhile like to any other replica, which is as
good. Only then does it take calls.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import grpc
import structlog

from pilothouse.client import channels
from pilothouse.client.addresses import Addresses, follow
from pilothouse.errors import PilothouseError, UnavailableError
from pilothouse.policy.config import CatchUpConfig
from pilothouse.policy.push import Offer
from pilothouse.policy.requests import Version
from pilothouse.policy.weights import WeightTransactions
from pilothouse.policy.weights_codec import decode_manifest, decode_origin
from pilothouse.status import from_rpc
from pilothouse.v1 import weights_pb2, weights_pb2_grpc

_ASK_SECONDS = 2.0
_LOOK_SECONDS = 0.2
_RUN = "peer"

_log = structlog.get_logger(__name__)

Serve = Callable[[bool], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Peer:
    """What a peer said."""

    address: str
    name: str
    """Of the service, as its certificate has it; empty where it is the address's."""
    serving: Version
    arriving: Version


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
            published: What the run's trainer has published last, as far as its directory tells.

        Raises:
            ConfigError: A peer's address is none.
        """
        self._transactions = transactions
        self._config = config
        self._instance = instance
        self._published = published
        self._peers: list[Addresses] = [follow(target) for target in config.peers]

    async def catch_up(self) -> None:
        """Returns when nobody known has, or is being given, newer weights than serve here."""
        started, failed = time.monotonic(), set[str]()
        while (goal := await self._ahead()) is not None:
            peer, version = goal
            if peer is not None and peer.address not in failed:
                try:
                    await self._copy(peer)
                except PilothouseError as error:
                    _log.warning("weights could not be copied", peer=peer.address, problem=str(error))
                    failed.add(peer.address)
                continue
            if time.monotonic() - started > self._config.wait_seconds:
                _log.warning("nobody brings the newest weights; serving older ones", newest=tuple(version))
                return
            failed.clear()
            await asyncio.sleep(_LOOK_SECONDS)
        _log.info("weights are current", version=tuple(self._current))

    async def follow(self, serve: Serve) -> None:
        """Keeps looking until cancelled: while a peer is ahead, this replica takes no calls."""
        while True:
            await asyncio.sleep(self._config.check_seconds)
            peers = await self._ask()
            ahead = [peer for peer in peers if peer.serving > self._current]
            if ahead and not self._is_brought(max(peer.serving for peer in ahead)):
                _log.warning("peers serve newer weights; catching up", version=tuple(self._current))
                await serve(False)
                await self.catch_up()
                await serve(True)

    @property
    def _current(self) -> Version:
        return self._transactions.current.version

    def _is_brought(self, version: Version) -> bool:
        """Returns whether an open push brings these weights, or newer ones."""
        arriving = self._transactions.arriving
        return arriving is not None and arriving >= version

    async def _ahead(self) -> tuple[_Peer | None, Version] | None:
        """Returns the newest version that does not serve here, and who has it; None where there is none."""
        peers = await self._ask()
        holder = max(peers, key=lambda peer: peer.serving, default=None)
        if holder is not None and holder.serving > self._current:
            return (None if self._is_brought(holder.serving) else holder), holder.serving
        newest = max([self._published, *(peer.arriving for peer in peers)])
        return (None, newest) if newest > self._current else None

    async def _ask(self) -> list[_Peer]:
        """Returns what every peer that can be reached says."""
        groups = await asyncio.gather(*(asyncio.to_thread(group.current) for group in self._peers))
        names = {
            address: group.name for group, found in zip(self._peers, groups, strict=True) for address in found
        }
        answers = await asyncio.gather(*(self._ask_one(*peer) for peer in sorted(names.items())))
        return [peer for peer in answers if peer is not None]

    async def _ask_one(self, address: str, name: str) -> _Peer | None:
        async with _connected(address, name) as stub:
            try:
                answer = await stub.GetWeights(weights_pb2.GetWeightsRequest(), timeout=_ASK_SECONDS)
            except grpc.RpcError:
                return None  # it starts, or is gone
        if answer.instance == self._instance:
            return None
        serving = Version(answer.epoch, answer.version)
        return _Peer(address, name, serving, Version(answer.open_epoch, answer.open_version))

    async def _copy(self, peer: _Peer) -> None:
        """Copies what a peer serves, as a push of its own."""
        started, above = time.monotonic(), self._current
        request = weights_pb2.FetchWeightsRequest(above_epoch=above.epoch, above_version=above.version)
        async with _connected(peer.address, peer.name) as stub:
            try:
                await self._store(stub.FetchWeights(request, timeout=self._config.wait_seconds))
            except grpc.RpcError as error:
                raise from_rpc(error, target=peer.address) from error
        seconds = round(time.monotonic() - started, 2)
        _log.info("weights copied", peer=peer.address, version=tuple(self._current), seconds=seconds)

    async def _store(self, stream: Any) -> None:
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


@asynccontextmanager
async def _connected(address: str, name: str) -> AsyncIterator[Any]:
    channel = channels.connect_async(address, server_name=name or None)
    try:
        yield weights_pb2_grpc.WeightsServiceStub(channel)
    finally:
        await channel.close()


def _offer(head: weights_pb2.ServedWeights) -> Offer:
    return Offer(
        run=_RUN,
        version=Version(head.epoch, head.version),
        parent=Version(0, 0),
        manifest=decode_manifest(head.manifest),
        origin=decode_origin(head),
    )
