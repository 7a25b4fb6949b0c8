"""Who the other replicas are, and how they are asked."""

import grpc
import pytest

from pilothouse.client import channels
from pilothouse.policy import peers
from pilothouse.policy.peers import Peers

from .fake_peer import fake_peer


class Listed:
    """Addresses that a test changes."""

    name = ""

    def __init__(self, *targets: str) -> None:
        self.targets = frozenset(targets)

    def current(self) -> frozenset[str]:
        return self.targets

    def close(self) -> None:
        pass


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[grpc.aio.Channel]:
    """Every channel that is made."""
    made: list[grpc.aio.Channel] = []
    connect = channels.connect_async

    def counted(target: str, **security: str | None) -> grpc.aio.Channel:
        made.append(connect(target, **security))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(channels, "connect_async", counted)
    return made


async def test_a_peer_is_asked_over_one_channel_for_as_long_as_it_is_listed(
    opened: list[grpc.aio.Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fake_peer() as one, fake_peer() as two:
        listed = Listed(one.target, two.target)
        monkeypatch.setattr(peers, "follow", lambda target: listed)
        followed = Peers(["name"], "me")
        for _ in range(3):
            assert len(await followed.ask()) == 2
        assert len(opened) == 2
        listed.targets = frozenset([two.target])
        assert [peer.place.address for peer in await followed.ask()] == [two.target]
        assert sorted(channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN for channel in opened) == [
            False,
            True,
        ]
        listed.targets = frozenset([one.target])
        assert [peer.place.address for peer in await followed.ask()] == [one.target]
        assert len(opened) == 3
        await followed.close()
        assert all(channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN for channel in opened)
