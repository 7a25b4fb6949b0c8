"""The other replicas: what each says of itself, and its weights, over one channel to each."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any, NamedTuple

import grpc

from pilothouse.client import channels
from pilothouse.client.addresses import Addresses, follow
from pilothouse.policy.requests import Version
from pilothouse.status import from_rpc
from pilothouse.v1 import weights_pb2, weights_pb2_grpc

_ASK_SECONDS = 2.0


class Place(NamedTuple):
    """Where a peer is."""

    address: str
    name: str
    """Of the service, as its certificate has it; empty where it is the address's."""


class Peer(NamedTuple):
    """What a peer said."""

    place: Place
    serving: Version
    arriving: Version
    taken_back: Version
    """Newest weights that a rollback has taken back there, or that it has heard of."""


class Peers:
    """Follows the addresses of the replicas. Belongs to one event loop."""

    def __init__(self, targets: Sequence[str], instance: str) -> None:
        """Asks nobody yet.

        Args:
            targets: Addresses of weights ports.
            instance: Names this process, which may find itself among them.

        Raises:
            ConfigError: A target is no address.
        """
        self._instance = instance
        self._groups: list[Addresses] = [follow(target) for target in targets]
        self._channels: dict[Place, grpc.aio.Channel] = {}

    async def ask(self) -> list[Peer]:
        """Returns what every peer that can be reached says.

        Raises:
            ConfigError: This process's certificate files cannot be used.
        """
        groups = await asyncio.gather(*(asyncio.to_thread(group.current) for group in self._groups))
        places = {
            Place(address, group.name)
            for group, found in zip(self._groups, groups, strict=True)
            for address in found
        }
        for gone in self._channels.keys() - places:
            await self._channels.pop(gone).close()
        answers = await asyncio.gather(*(self._ask_one(place) for place in sorted(places)))
        return [peer for peer in answers if peer is not None]

    async def fetch(
        self, peer: Peer, above: Version, timeout_seconds: float
    ) -> AsyncGenerator[weights_pb2.FetchWeightsResponse, None]:
        """Yields the weights that a peer serves, if they are above a version.

        Raises:
            PilothouseError: The peer refuses, is gone, or takes too long.
        """
        request = weights_pb2.FetchWeightsRequest(above_epoch=above.epoch, above_version=above.version)
        try:
            async for message in self._stub(peer.place).FetchWeights(request, timeout=timeout_seconds):
                yield message
        except grpc.RpcError as error:
            raise from_rpc(error, target=peer.place.address) from error

    async def close(self) -> None:
        """Closes every channel."""
        while self._channels:
            await self._channels.popitem()[1].close()

    async def _ask_one(self, place: Place) -> Peer | None:
        try:
            answer = await self._stub(place).GetWeights(weights_pb2.GetWeightsRequest(), timeout=_ASK_SECONDS)
        except grpc.RpcError:
            return None  # it starts, or is gone
        if answer.instance == self._instance:
            return None
        return Peer(
            place,
            serving=Version(answer.epoch, answer.version),
            arriving=Version(answer.open_epoch, answer.open_version),
            taken_back=Version(answer.taken_back_epoch, answer.taken_back_version),
        )

    def _stub(self, place: Place) -> Any:
        if place not in self._channels:  # to make one proves the certificate files anew
            self._channels[place] = channels.connect_async(place.address, server_name=place.name or None)
        return weights_pb2_grpc.WeightsServiceStub(self._channels[place])
