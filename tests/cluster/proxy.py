"""A TCP proxy whose connections a test cuts."""

import socket
import threading
from contextlib import suppress


class Proxy:
    """Passes bytes to and from one address.

    ``cut`` breaks every connection, ``freeze`` silences them, ``refuse`` takes no new ones.
    """

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._frozen: set[socket.socket] = set()
        self._refusing = False
        self.connections = 0
        """Taken so far."""
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Breaks all connections in the middle of whatever they carry."""
        with self._lock:
            found, self._sockets = self._sockets, set()
        for each in found:
            _end(each)

    def freeze(self) -> None:
        """Loses whatever is sent over the connections there are, which stay open; new ones are like any."""
        with self._lock:
            self._frozen |= self._sockets

    def refuse(self, refusing: bool) -> None:
        """Ends new connections at once, or no longer."""
        self._refusing = refusing

    def close(self) -> None:
        """Ends everything."""
        _end(self._listener)
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing:
                near.close()
                continue
            try:
                far = socket.create_connection(self._to)
            except OSError:
                near.close()
                continue
            self.connections += 1
            with self._lock:
                self._sockets |= {near, far}
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if source not in self._frozen:
                    target.sendall(data)
        for each in (source, target):
            _end(each)
        with self._lock:
            self._sockets -= {source, target}
            self._frozen -= {source, target}


def _end(found: socket.socket) -> None:
    with suppress(OSError):
        found.shutdown(socket.SHUT_RDWR)
    found.close()
