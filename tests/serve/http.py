"""The least of a client: requests with exactly what a test says."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    status: int
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Http:
    """Requests to one server on loopback."""

    port: int
    key: str = ""

    def __call__(self, path: str, body: object = None, **headers: str) -> Answer:
        """GET, or with a body POST."""
        sent = {"Content-Type": "application/json"}
        sent |= {"Authorization": f"Bearer {self.key}"} if self.key else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        with closing(connection):
            data = None if body is None else json.dumps(body)
            connection.request("GET" if data is None else "POST", path, data, sent)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read().decode())

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[Any]:
        """The events of a stream, read as they come."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        with closing(connection):
            connection.request("POST", path, json.dumps(body | {"stream": True}), {})
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            for line in answer:
                if line.startswith(b"data: ") and line.strip() != b"data: [DONE]":
                    yield json.loads(line[6:])
