"""Reaches a port of a pod through the API server, as `kubectl port-forward` does.

A listener on loopback takes any number of connections; each travels over a websocket of its own, opened by
the ``kubernetes`` client. The client's own pump is not used: it hangs when the API server goes away.
"""

import selectors
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from kubernetes.client import ApiException
from kubernetes.stream.ws_client import create_websocket
from websocket import ABNF, WebSocketBadStatusException, WebSocketException

from pilothouse.cluster.api import Api
from pilothouse.cluster.failures import Asked, from_status, from_transport
from pilothouse.cluster.kinds import POD, Object, name_of
from pilothouse.cluster.objects import ports_of
from pilothouse.errors import NotFoundError, PilothouseError, PortClosedError, UnavailableError

_PROTOCOL = "v4.channel.k8s.io"
_DATA, _ERROR = 0, 1
_PORT_FRAME_BYTES = 2
"""Each channel begins with a frame that repeats the port's number."""
_CHUNK_BYTES = 2**16


@contextmanager
def forwarded(api: Api, pod: Object, port: str | int) -> Iterator[int]:
    """Opens a port of a pod here, on loopback, for as long as the context lasts.

    Args:
        api: The cluster.
        pod: The pod; it must be running.
        port: Number of the port, or its name in the pod.

    Yields:
        The port on 127.0.0.1.

    Raises:
        PermissionDeniedError: This account may not forward ports.
        NotFoundError: The pod, or its port, does not exist.
        UnavailableError: The API server or the pod cannot be reached. What is raised inside because of
            that is replaced by the cause.
    """
    forward = _Forward(api, name_of(pod), port if isinstance(port, int) else port_of(pod, port))
    try:
        yield forward.port
    except UnavailableError as error:
        if forward.problem is not None:
            raise forward.problem from error
        raise
    finally:
        forward.close()


def port_of(pod: Object, name: str) -> int:
    """Returns the number of a port by its name.

    Raises:
        NotFoundError: The pod has none of this name.
    """
    ports = ports_of(pod)
    if name in ports:
        return ports[name]
    raise NotFoundError(f"pod {name_of(pod)} has no port named {name}; was it installed by another chart?")


class _Forward:
    """The listener, and a thread for each connection."""

    def __init__(self, api: Api, pod: str, port: int) -> None:
        self._api, self._pod, self._port = api, pod, port
        self.problem: PilothouseError | None = None
        """Why the last connection failed."""
        self._open: set[Any] = set()
        self._lock = threading.Lock()
        self._closed = False
        first = self._connect()  # so that what is forbidden is told before anybody calls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, args=(first,), name=f"forward {pod}", daemon=True).start()

    def close(self) -> None:
        """Ends the listener and every connection."""
        self._closed = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            found, self._open = self._open, set()
        for each in found:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self, first: Any) -> None:
        """Takes connections until the listener ends; the first has its websocket already."""
        far: Any = first
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                break
            threading.Thread(target=self._serve, args=(near, far), daemon=True).start()
            far = None
        if far is not None:
            far.shutdown()

    def _serve(self, near: socket.socket, far: Any) -> None:
        with near:
            try:
                far = far or self._connect()
            except PilothouseError as error:
                self.problem = error
                return
            with self._lock:
                self._open |= {near, far.sock}
            told: list[PilothouseError] = []
            try:
                if not self._closed:
                    self._pump(near, far, told)
            except (OSError, WebSocketException) as error:
                told.append(from_transport(error, self._api.server))
            finally:
                with self._lock:
                    self._open -= {near, far.sock}
                far.shutdown()
            if told and not self._closed:
                self.problem = told[0]

    def _connect(self) -> Any:
        server = self._api.server.replace("http", "ws", 1)
        path = POD.path(self._api.namespace, self._pod, "portforward")
        headers = {"sec-websocket-protocol": _PROTOCOL}
        if (authorization := self._api.authorization()) is not None:
            headers["authorization"] = authorization
        # A websocket is opened with GET, so servers ask for the right to get, newer ones also to create.
        asked = Asked("get and create", "pods/portforward", "", self._pod, self._api.namespace)
        try:
            return create_websocket(self._api.configuration, f"{server}{path}?ports={self._port}", headers)
        except WebSocketBadStatusException as error:
            raise from_status(error.status_code, error.resp_body or b"", asked) from error
        except (OSError, WebSocketException, ApiException) as error:
            raise from_transport(error, self._api.server) from error

    def _pump(self, near: socket.socket, far: Any, told: list[PilothouseError]) -> None:
        """Passes bytes both ways until one side has ended; adds what the kubelet says is wrong."""
        with selectors.DefaultSelector() as selector:
            selector.register(near, selectors.EVENT_READ)
            selector.register(far.sock, selectors.EVENT_READ)
            begun = set[int]()
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if near in ready:
                    data = near.recv(_CHUNK_BYTES)
                    if not data:
                        return
                    far.send_binary(bytes([_DATA]) + data)
                # Decrypted bytes wait inside the TLS socket, where no selector sees them.
                while far.sock in ready or _pending(far.sock):
                    ready.discard(far.sock)
                    code, frame = far.recv_data_frame(control_frame=True)
                    if code == ABNF.OPCODE_CLOSE:
                        return
                    if code != ABNF.OPCODE_BINARY or not frame.data:
                        continue
                    channel, data = frame.data[0], frame.data[1:]
                    if channel not in begun and len(data) == _PORT_FRAME_BYTES:
                        begun.add(channel)
                    elif channel == _DATA:
                        near.sendall(data)
                    elif channel == _ERROR:
                        told.append(self._refused(data))
                        return

    def _refused(self, data: bytes) -> PilothouseError:
        text = " ".join(data.decode("utf-8", "replace").split())
        told = f"pod {self._pod} does not answer on port {self._port}"
        if "connection refused" in text:  # the rest is how the kubelet has tried
            return PortClosedError(f"{told}: nothing listens there; see its logs")
        return UnavailableError(f"{told}: {text}; see its logs")


def _pending(sock: Any) -> bool:
    return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
