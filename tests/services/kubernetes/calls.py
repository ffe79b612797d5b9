"""Calls to the API server, by the standard library alone: for the nodes, and for the start."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from collections.abc import Iterator
from typing import Any

Thing = dict[str, Any]
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


class Refused(Exception):
    """The API server said no; `status` is its HTTP status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


class Api:
    """An API server. With `keep` each thread has a connection of its own, which it keeps."""

    def __init__(self, port: int, certificate: str, token: str, *, keep: bool = False) -> None:
        self._keep = keep
        self.port = str(port)
        self._token = token
        self._tls = ssl.create_default_context(cafile=certificate)
        self._mine = threading.local()

    def call(self, method: str, path: str, body: Thing | None = None, kind: str = "") -> Thing:
        """The answer to a request. Refused if that is an error; OSError if there is none."""
        for last in (False, True):
            connection = getattr(self._mine, "connection", None) or self._connect(30.0)
            try:
                connection.request(method, path, *self._request(body, kind))
                response = connection.getresponse()
                text = response.read().decode()
                if self._keep:
                    self._mine.connection = connection
                else:
                    connection.close()
                break
            except (OSError, http.client.HTTPException):
                # A connection that was kept may have been closed by the other side.
                connection.close()
                self._mine.connection = None
                if last:
                    raise
        if response.status >= 300:
            raise Refused(response.status, text)
        found: Thing = json.loads(text) if text.startswith("{") else {"text": text}
        return found

    def events(self, path: str) -> Iterator[Thing]:
        """The events of a watch, until the API server ends it."""
        connection = self._connect(None)
        try:
            connection.request("GET", path, *self._request(None, ""))
            response = connection.getresponse()
            if response.status != 200:
                raise Refused(response.status, response.read().decode())
            while line := response.readline():
                yield json.loads(line)
        finally:
            connection.close()

    def _connect(self, timeout_s: float | None) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            "127.0.0.1", int(self.port), context=self._tls, timeout=timeout_s
        )

    def _request(self, body: Thing | None, kind: str) -> tuple[str | None, dict[str, str]]:
        headers = {"Authorization": f"Bearer {self._token}"}
        if body is None:
            return None, headers
        headers["Content-Type"] = kind or "application/json"
        return json.dumps(body), headers
