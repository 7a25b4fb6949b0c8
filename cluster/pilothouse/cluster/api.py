"""The API server: objects in, objects out, and every failure an error of ours.

Connections, credentials and proxies are the ``kubernetes`` client's. Objects stay the JSON that the server
sent: the client's models know the fields of one version of Kubernetes, and what they do not know they would
drop or refuse.
"""

import copy
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Self, cast
from urllib.parse import urlencode

from kubernetes.client import Configuration
from kubernetes.client.rest import RESTClientObject
from urllib3 import BaseHTTPResponse, Retry, Timeout

from pilothouse.cluster.failures import TRANSPORT, Asked, from_status, from_transport
from pilothouse.cluster.kinds import Kind, Object
from pilothouse.errors import ConflictError, GoneError, UnavailableError

MERGE = "application/merge-patch+json"

_CONNECT_SECONDS, _READ_SECONDS = 10.0, 60.0
_PAGE = 500
_CONFLICTS = 8
"""Changes by others in a row, after which a change is given up."""

# What did not reach the server is sent again, and what may be asked twice also where the answer was lost.
_RETRIES = Retry(total=3, backoff_factor=0.2, raise_on_status=False)
_ONCE = Retry(total=0, raise_on_status=False)


class Listing(NamedTuple):
    """Objects, and the version of the collection from which a watch goes on."""

    items: list[Object]
    version: str


class Api:
    """One cluster, seen from one namespace. Threads may share it."""

    def __init__(self, configuration: Configuration, namespace: str) -> None:
        """Opens nothing yet.

        Args:
            configuration: Server and credentials, from the ``kubernetes`` client.
            namespace: Of all objects that are in one.
        """
        self.configuration = configuration
        self.namespace = namespace
        self.server = str(configuration.host)
        self._pool = RESTClientObject(configuration).pool_manager
        self._timeout, self._retries = Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS), _RETRIES

    def within(self, seconds: float) -> Self:
        """Returns the same API, whose requests are sent once each and may take so long."""
        impatient = copy.copy(self)
        impatient._timeout, impatient._retries = Timeout(total=seconds), _ONCE
        return impatient

    def get(self, kind: Kind, name: str, part: str = "") -> Object:
        """Returns an object, or a part of it such as ``scale``.

        Raises:
            NotFoundError: It is not there.
        """
        return self._json("GET", kind.path(self.namespace, name, part), self._asked("get", kind, name, part))

    def list(self, kind: Kind, selector: str = "", *, fields: str = "") -> Listing:
        """Returns all objects of a kind that have the labels.

        Args:
            kind: What.
            selector: Label selector.
            fields: Field selector.
        """
        items: list[Object] = []
        path = kind.path(self.namespace)
        asked = self._asked("list", kind)
        query = {"labelSelector": selector, "fieldSelector": fields, "limit": str(_PAGE), "continue": ""}
        while True:
            try:
                page = self._json("GET", path, asked, query)
            except GoneError:  # the next page is of a state that is too old: all of them anew, at once
                items, query = [], query | {"limit": "", "continue": ""}
                continue
            # The server leaves these two out of the members of a list.
            whole = {"apiVersion": kind.api_version, "kind": kind.kind}
            items += [whole | item for item in page.get("items") or ()]
            query["continue"] = str(page["metadata"].get("continue") or "")
            if not query["continue"]:
                return Listing(items, str(page["metadata"].get("resourceVersion") or ""))

    def create(self, kind: Kind, body: Object, name: str = "", part: str = "") -> Object:
        """Makes an object, or a part of one such as a service account's ``token``; returns what it became.

        Raises:
            AlreadyExistsError: There is one of this name.
            InvalidRequestError: The server refuses it.
        """
        whole = {"apiVersion": kind.api_version, "kind": kind.kind} | body
        asked = self._asked("create", kind, name, part)
        return self._json("POST", kind.path(self.namespace, name, part), asked, body=whole)

    def replace(self, kind: Kind, name: str, body: Object, part: str = "") -> Object:
        """Puts a changed object in the place of the one that was read.

        Raises:
            ConflictError: Somebody else has changed it since.
        """
        asked = self._asked("update", kind, name, part)
        return self._json("PUT", kind.path(self.namespace, name, part), asked, body=body)

    def change(self, kind: Kind, name: str, edit: Callable[[Object], None], part: str = "") -> Object:
        """Reads an object, edits it, puts it back; after a change by somebody else, again with the fresh one.

        Args:
            kind: What.
            name: Which one.
            edit: Changes the object it is given. Called once for each attempt.
            part: Of it, such as ``scale``.

        Raises:
            ConflictError: Others change it all the time.
        """
        for attempt in range(_CONFLICTS):
            found = self.get(kind, name, part)
            edit(found)
            try:
                return self.replace(kind, name, found, part)
            except ConflictError:
                if attempt == _CONFLICTS - 1:
                    raise
            time.sleep(0.01 * 2**attempt)
        raise AssertionError("unreachable")

    def patch(self, kind: Kind, name: str, change: Mapping[str, Any], part: str = "") -> Object:
        """Merges a change into an object, whatever else has changed; null removes."""
        asked = self._asked("patch", kind, name, part)
        return self._json(
            "PATCH", kind.path(self.namespace, name, part), asked, body=change, content_type=MERGE
        )

    def delete(self, kind: Kind, name: str) -> None:
        """Deletes an object, and in the background what it owns."""
        asked = self._asked("delete", kind, name)
        options = {"propagationPolicy": "Background"}
        self._json("DELETE", kind.path(self.namespace, name), asked, body=options)

    def read(self, path: str, asked: Asked | None = None, query: Mapping[str, str] | None = None) -> Object:
        """Returns the JSON at an address that is no kind's, such as ``/version``."""
        return self._json("GET", path, asked or Asked("get", path), query)

    def lines(
        self, path: str, asked: Asked, query: Mapping[str, str], *, read_seconds: float | None = None
    ) -> "Lines":
        """Opens an answer that comes line by line, for as long as the server goes on.

        Args:
            path: Address.
            asked: What is asked, for errors.
            query: Parameters.
            read_seconds: Longest silence; None for any. A peer that is gone is noticed all the same.
        """
        timeout = Timeout(connect=_CONNECT_SECONDS, read=read_seconds)
        response = self._open("GET", path, asked, query, timeout=timeout)
        return Lines(response, self.server)

    def authorization(self) -> str | None:
        """Returns the header by which this client is known, where it is not known by its certificate."""
        for setting in self.configuration.auth_settings().values():
            return cast(str | None, cast(dict[str, Any], setting)["value"])
        return None

    def _asked(self, verb: str, kind: Kind, name: str = "", part: str = "") -> Asked:
        resource = f"{kind.plural}/{part}" if part else kind.plural
        return Asked(verb, resource, kind.group, name, self.namespace if kind.namespaced else "")

    def _json(
        self,
        method: str,
        path: str,
        asked: Asked,
        query: Mapping[str, str] | None = None,
        *,
        body: object = None,
        content_type: str = "application/json",
    ) -> Object:
        response = self._open(
            method, path, asked, query, body=body, content_type=content_type, timeout=self._timeout
        )
        body = self._whole(response)
        try:
            return cast(Object, json.loads(body))
        except ValueError:
            told = body[:100].decode("utf-8", "replace")
            raise UnavailableError(
                f"cannot {asked.words}: {self.server} answers {told!r}, which is no JSON; see whether a "
                "proxy answers in its place, or try again"
            ) from None

    def _open(
        self,
        method: str,
        path: str,
        asked: Asked,
        query: Mapping[str, str] | None = None,
        *,
        body: object = None,
        content_type: str = "application/json",
        timeout: Timeout,
    ) -> BaseHTTPResponse:
        headers = {"accept": "application/json, */*", "user-agent": "pilothouse"}
        if (authorization := self.authorization()) is not None:
            headers["authorization"] = authorization
        if body is not None:
            headers["content-type"] = content_type
        parameters = urlencode({name: value for name, value in (query or {}).items() if value})
        url = f"{self.server}{path}" + (f"?{parameters}" if parameters else "")
        sent = None if body is None else json.dumps(body).encode()
        try:
            response = self._pool.request(
                method,
                url,
                body=sent,
                headers=headers,
                timeout=timeout,
                retries=self._retries,
                preload_content=False,
            )
        except TRANSPORT as error:
            raise from_transport(error, self.server) from error
        if response.status >= 400:
            raise from_status(response.status, self._whole(response), asked)
        return response

    def _whole(self, response: BaseHTTPResponse) -> bytes:
        try:
            return response.data
        except TRANSPORT as error:
            raise from_transport(error, self.server) from error


class Lines:
    """An answer that comes line by line; any thread may close it."""

    def __init__(self, response: BaseHTTPResponse, server: str) -> None:
        self._response = response
        self._server = server
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        """Yields lines without their ends, until the server has sent all or this is closed.

        Raises:
            UnavailableError: The connection broke.
        """
        rest = b""
        try:
            for chunk in self._response.stream(2**16, decode_content=True):
                *whole, rest = (rest + chunk).split(b"\n")
                yield from whole
            if rest and not self._closed:
                yield rest
        except TRANSPORT as error:
            if not self._closed:
                raise from_transport(error, self._server) from error
        finally:
            self._response.close()

    def close(self) -> None:
        """Ends the iteration, also where another thread waits in it."""
        self._closed = True
        try:
            self._response.shutdown()
        except (OSError, ValueError, RuntimeError):
            self._response.close()  # nobody reads from it any more
