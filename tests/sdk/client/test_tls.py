"""Both ends of mutual TLS, with real certificates."""

import asyncio
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from prometheus_client import REGISTRY
from tests.certificates import EXPIRED, Authority

from pilothouse.client import AsyncPolicyClient, AsyncWeightsClient, PolicyClient, renewal
from pilothouse.client.renewal import RenewedChannel
from pilothouse.errors import ConfigError, UnavailableError
from pilothouse.server import Server, ServerConfig
from pilothouse.tls import Pem, Tls, adopt, own
from pilothouse.v1 import policy_pb2, policy_pb2_grpc

Serve = Any
Echo = Any


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours")


@pytest.fixture
def strangers(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "theirs")


def target(server: Server) -> str:
    return f"127.0.0.1:{server.port}"


def model(address: str, **security: Any) -> str:
    with PolicyClient(address, timeout_seconds=10, **security) as client:
        return client.model().model


async def refusal(address: str, **security: Any) -> str:
    """Returns what mends it, as both kinds of client are told in one line."""

    def blocking() -> None:
        with PolicyClient(address, **security) as client:
            client.wait_ready(0.3)

    told = set()
    async with AsyncPolicyClient(address, **security) as client:
        for wait in (client.wait_ready(0.3), asyncio.to_thread(blocking)):
            with pytest.raises(UnavailableError, match=r"not ready within .* cannot reach") as caught:
                await wait
            told.add(str(caught.value).rpartition("; ")[2])
    (mend,) = told
    assert "\n" not in mend
    return mend


async def test_both_ends_show_a_certificate(serve: Serve, echo: Echo, authority: Authority) -> None:
    server = await serve(echo.add, tls=authority.issue("server"))
    client = authority.issue("client", "trainer.example")
    assert await asyncio.to_thread(model, target(server), tls=client) == "echo"
    async with AsyncPolicyClient(target(server), tls=client) as policy:
        await policy.wait_ready(30)
        assert (await policy.model()).model == "echo"
        assert len([event async for event in policy.stream(["a", "b"], seeds=[1, 2])]) == 2


async def test_every_replica_behind_a_name_is_verified(
    serve: Serve, echo: Echo, authority: Authority
) -> None:
    server = await serve(echo.add, tls=authority.issue("server", "localhost"))
    named = f"dns:///localhost:{server.port}"
    assert await asyncio.to_thread(model, named, tls=authority.issue("client")) == "echo"


async def test_a_replica_called_by_its_address_is_known_by_the_name_of_its_service(
    serve: Serve, echo: Echo, authority: Authority
) -> None:
    server, client = (
        await serve(echo.add, tls=authority.issue("server", "f-policy.ns.svc")),
        authority.issue("client"),
    )
    mend = await refusal(target(server), tls=client)
    assert mend.startswith(f"its certificate does not name the host of {target(server)}")
    for security in (
        {"tls": client, "server_name": "f-policy.ns.svc"},
        {"tls": client.model_copy(update={"server_name": "f-policy.ns.svc"})},
    ):
        assert await asyncio.to_thread(model, target(server), **security) == "echo"
        async with AsyncPolicyClient(target(server), **security) as policy:
            assert (await policy.model()).model == "echo"


async def test_a_plaintext_client_is_told_that_the_server_may_demand_tls(
    serve: Serve, echo: Echo, authority: Authority
) -> None:
    server = await serve(echo.add, tls=authority.issue("server"))
    assert "that this process has a section [tls]" in await refusal(target(server))


async def test_a_plaintext_server_is_told_of(serve: Serve, echo: Echo, authority: Authority) -> None:
    server = await serve(echo.add)
    mend = await refusal(target(server), tls=authority.issue("client"))
    assert mend.startswith("it does not speak TLS, this process does")


async def test_a_server_of_another_authority_is_not_trusted(
    serve: Serve, echo: Echo, authority: Authority, strangers: Authority
) -> None:
    server = await serve(echo.add, tls=strangers.issue("server"))
    mend = await refusal(target(server), tls=authority.issue("client"))
    assert "not signed by an authority in this process's tls.ca_file" in mend


async def test_a_caller_whom_the_servers_authority_does_not_know_is_refused(
    serve: Serve, echo: Echo, authority: Authority, strangers: Authority
) -> None:
    """Its own files are in order: it trusts both authorities."""
    server = await serve(echo.add, tls=authority.issue("server"))
    client = strangers.issue("client")
    client.ca_file.write_bytes(client.ca_file.read_bytes() + authority.ca.cert_pem.bytes())
    mend = await refusal(target(server), tls=client)
    assert "whose certificate it accepts" in mend
    assert "pilothouse doctor" in mend


async def test_a_caller_without_a_certificate_is_refused(
    serve: Serve, echo: Echo, authority: Authority
) -> None:
    server = await serve(echo.add, tls=authority.issue("server"))
    trusting = grpc.ssl_channel_credentials(authority.ca.cert_pem.bytes())
    async with grpc.aio.secure_channel(target(server), trusting) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="Socket closed"):
            await policy_pb2_grpc.PolicyServiceStub(channel).GetModel(policy_pb2.GetModelRequest())
    assert echo.calls == 0


async def test_expired_certificates_are_told_where_they_lie(authority: Authority) -> None:
    expired = authority.issue("expired", **EXPIRED)
    with pytest.raises(ConfigError, match=r"tls\.crt has expired on"):
        PolicyClient("127.0.0.1:1", tls=expired)
    with pytest.raises(ConfigError, match=r"tls\.crt has expired on"):
        AsyncPolicyClient("127.0.0.1:1", tls=expired)
    with pytest.raises(ConfigError, match=r"tls\.crt has expired on"):
        Server(ServerConfig(), "test", expired)


async def test_a_call_is_told_what_is_wrong_with_the_certificates(
    serve: Serve, echo: Echo, authority: Authority, strangers: Authority
) -> None:
    server, client = await serve(echo.add, tls=strangers.issue("server")), authority.issue("client")
    async with AsyncPolicyClient(target(server), tls=client) as policy:
        for call in (policy.model(), asyncio.to_thread(model, target(server), tls=client)):
            with pytest.raises(UnavailableError, match="not signed by an authority in this process's"):
                await call


@pytest.mark.usefixtures("no_identity")
async def test_what_a_process_adopts_its_servers_and_clients_have(
    echo: Echo, authority: Authority, strangers: Authority
) -> None:
    tls = authority.issue("process")
    environment = {
        "PILOTHOUSE_TLS__CERT_FILE": str(tls.cert_file),
        "PILOTHOUSE_TLS__KEY_FILE": str(tls.key_file),
        "PILOTHOUSE_TLS__CA_FILE": str(tls.ca_file),
    }
    assert adopt(environment=environment) == own() == tls
    server = Server(ServerConfig(host="0.0.0.0"), "test")
    echo.add(server.grpc)
    await server.start()
    try:
        assert await asyncio.to_thread(model, target(server)) == "echo"
        async with AsyncPolicyClient(target(server)) as client:
            assert (await client.model()).model == "echo"
        mend = await refusal(target(server), tls=strangers.issue("another"))
        assert "not signed by an authority" in mend
        assert adopt(environment={}) is None
        assert "section [tls]" in await refusal(target(server))
    finally:
        await server.abort()


async def test_a_renewed_certificate_is_served_to_the_next_connection_while_calls_go_on(
    serve: Serve, echo: Echo, authority: Authority
) -> None:
    server = await serve(echo.add, tls=authority.issue("server", "127.0.0.1", "old.example"))
    client = authority.issue("client")
    async with AsyncPolicyClient(target(server), tls=client) as before:
        assert (await before.model()).model == "echo"
        authority.issue("server", "127.0.0.1", "new.example")
        assert (await before.model()).model == "echo"  # on the connection it has
        for name in ("new.example", "127.0.0.1"):
            assert await asyncio.to_thread(model, target(server), tls=client, server_name=name) == "echo"
        assert "does not name" in await refusal(target(server), tls=client, server_name="old.example")
        assert (await before.model()).model == "echo"
    assert echo.calls == 5


async def test_when_a_certificate_expires_is_a_metric_and_follows_its_renewal(
    serve: Serve, echo: Echo, authority: Authority
) -> None:
    await serve(echo.add, tls=authority.issue("server"))
    name, labels = "pilothouse_tls_certificate_expiry_timestamp_seconds", {"service": "test"}
    assert REGISTRY.get_sample_value(name, labels) == 32503680000  # trustme: the year 3000
    expiry = datetime(2999, 1, 1, tzinfo=UTC)
    authority.issue("server", not_after=expiry)
    assert REGISTRY.get_sample_value(name, labels) == expiry.timestamp()


def replace_authority(authority: Authority, strangers: Authority, tls: Tls) -> None:
    """What a rotation of the authority does last: a new certificate, and only the new authority."""
    fresh = strangers.issue(f"fresh-{tls.cert_file.parent.name}")
    for old, new in zip(
        (tls.ca_file, tls.key_file, tls.cert_file),
        (fresh.ca_file, fresh.key_file, fresh.cert_file),
        strict=True,
    ):
        old.write_bytes(new.read_bytes())


@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
async def test_a_client_connects_with_the_certificate_of_today(
    serve: Serve, echo: Echo, authority: Authority, strangers: Authority, kind: str
) -> None:
    """One that was made with yesterday's files, and of which the authority has gone, must live on."""
    server, client = await serve(echo.add, tls=authority.issue("server")), authority.issue("client")
    port = server.port
    blocking = PolicyClient(target(server), timeout_seconds=20, tls=client)
    asking = AsyncPolicyClient(target(server), timeout_seconds=20, tls=client)

    async def ask() -> str:
        if kind == "asyncio":
            return (await asking.model()).model
        return (await asyncio.to_thread(blocking.model)).model

    try:
        for _ in range(3):
            assert await ask() == "echo"
            await server.stop()
            authority, strangers = strangers, authority
            replace_authority(strangers, authority, client)
            server = await serve(echo.add, port=port, tls=authority.issue("server"))
        assert await ask() == "echo"
    finally:
        blocking.close()
        await asking.close()


async def test_no_call_fails_while_every_certificate_is_renewed(
    serve: Serve, echo: Echo, authority: Authority
) -> None:
    server, client = await serve(echo.add, tls=authority.issue("server")), authority.issue("client")
    async with AsyncPolicyClient(target(server), tls=client) as policy:
        for _ in range(20):
            authority.issue("server")
            authority.issue("client")
            async with AsyncPolicyClient(target(server), tls=client) as fresh:
                answers = await asyncio.gather(policy.model(), fresh.model(), policy.model())
            assert [answer.model for answer in answers] == ["echo"] * 3
    assert echo.calls == 60


@pytest.mark.parametrize("times", [1, 4])
async def test_a_stream_ends_where_it_began_though_its_clients_certificate_is_replaced(
    serve: Serve, echo: Echo, authority: Authority, times: int
) -> None:
    server, client = await serve(echo.add, tls=authority.issue("server")), authority.issue("client")
    async with AsyncPolicyClient(target(server), tls=client) as policy:
        events = policy.stream([f"prompt {index}" for index in range(200)], seeds=range(200))
        seen = [await anext(events)]
        for _ in range(times):
            authority.issue("client")
            assert (await policy.model()).model == "echo"
        seen += [event async for event in events]
    assert len(seen) == 200


class OneAfterAnother:
    """Certificates of which a thread is given the older ones, and is slow to go on with them."""

    def __init__(self) -> None:
        self.pem = Pem(b"old", b"", b"")
        self.slow = ""
        self.got, self.go_on = threading.Event(), threading.Event()

    def current(self) -> Pem:
        pem = self.pem
        if threading.current_thread().name == self.slow:
            self.got.set()
            self.go_on.wait(60)
        return pem


def test_a_thread_that_is_slow_does_not_bring_the_certificate_before_back() -> None:
    certificates: Any = OneAfterAnother()
    opened = list[bytes]()

    def opening(pem: Pem) -> grpc.Channel:
        opened.append(pem.key)
        return grpc.insecure_channel("127.0.0.1:1")

    channel = RenewedChannel(opening, certificates)
    certificates.slow = "slow"
    slow = threading.Thread(target=channel.latest, name="slow")
    slow.start()
    assert certificates.got.wait(60)
    certificates.pem = Pem(b"new", b"", b"")
    quick = threading.Thread(target=channel.latest)
    quick.start()
    quick.join(0.5)  # it waits for the slow one, or has overtaken it
    certificates.go_on.set()
    for thread in (slow, quick):
        thread.join(60)
    assert opened == [b"old", b"new"]
    channel.close()


async def test_channels_of_long_ago_are_closed(
    serve: Serve, echo: Echo, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "_KEPT_SECONDS", -1.0)
    server, client = await serve(echo.add, tls=authority.issue("server")), authority.issue("client")
    async with AsyncPolicyClient(target(server), tls=client) as policy:
        channel: Any = policy._channel
        for _ in range(3):
            authority.issue("client")
            assert (await policy.model()).model == "echo"
        assert len(channel._channels) == 1


async def test_a_push_over_tls_arrives_whole(serve: Serve, staged: Any, authority: Authority) -> None:
    server = await serve(staged.add, tls=authority.issue("server"))
    arrays = {"a": np.arange(5000, dtype=np.float32), "b": np.ones(7, np.float32)}
    async with AsyncWeightsClient(target(server), tls=authority.issue("trainer")) as weights:
        result = await weights.push(arrays, run="r", epoch=1, version=1)
    assert result.uploaded_bytes == len(staged.staged) == 4 * 5007
