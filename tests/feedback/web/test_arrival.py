"""Clients that take their time: the real server, with a short limit."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from .running import Running

HEAD = b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
ASKED = b"GET /login HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.fixture
def limit_seconds() -> float:
    return 1.0


@pytest.fixture
def site(tmp_path: Path, limit_seconds: float) -> Iterator[Running]:
    running = Running(tmp_path, page={"request_seconds": limit_seconds})
    yield running
    running.close()


def connect(site: Running) -> socket.socket:
    # The limit of the test itself: without one of the server's, it would wait for good.
    return socket.create_connection(("127.0.0.1", site.port), timeout=15)


def is_cut(connection: socket.socket, *, byte: bytes, pause_seconds: float = 0.1) -> bool:
    """Sends a byte now and then, as long as the server listens; returns whether it stopped to."""
    connection.settimeout(pause_seconds)
    for _ in range(round(20 / pause_seconds)):
        try:
            connection.sendall(byte)
            if connection.recv(2**16) == b"":
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET / HTTP/1.1\r\nX-Slow: ",
        HEAD + b"Content-Length: 1000\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n",
        ASKED + b"GET / HTTP/1.1\r\nX-Slow: ",
        ASKED + ASKED[:-2] + b"Content-Length: 1000\r\n\r\n",
        HEAD.replace(b"POST", b"PUT") + b"Content-Length: 1000\r\n\r\n",  # answered before it is there
    ],
    ids=["nothing", "headers", "body", "chunks", "second headers", "second body", "refused body"],
)
def test_a_request_that_trickles_in_is_cut_off(
    site: Running, begun: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(site) as connection:
        connection.sendall(begun)
        assert is_cut(connection, byte=b"x" if begun else b"")
    assert [record.getMessage() for record in caplog.records if record.name == "uvicorn.error"] == []


@pytest.mark.parametrize("limit_seconds", [4.0])
def test_a_connection_that_is_used_again_has_the_whole_time_for_every_request(site: Running) -> None:
    with connect(site) as connection:
        for _ in range(4):
            connection.sendall(ASKED[:30])
            stay(connection, 0.6)
            connection.sendall(ASKED[30:])
            assert connection.recv(2**16).startswith(b"HTTP/1.1 200")
            stay(connection, 0.6)


def stay(connection: socket.socket, seconds: float) -> None:
    """Waits, and takes what is left of an answer."""
    connection.settimeout(seconds)
    try:
        while connection.recv(2**16):
            pass
    except TimeoutError:
        connection.settimeout(15)
    else:
        raise AssertionError("the server has cut the connection")
