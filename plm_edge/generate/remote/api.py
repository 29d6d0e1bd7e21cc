"""This client speaks the part of llama-server's HTTP API that plm-edge needs."""

from __future__ import annotations

import http.client
import json
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

from plm_edge.base.errors import ExitCode, PlmEdgeError

_POLL = 0.1  # seconds between looks whether to stop
_END: dict[str, Any] = {}


class BrokenAnswer(Exception):
    """An answer broke off: the server has ended, or the connection to it is lost."""


class Api:
    """Requests to one server.

    Args:
        port: the server's.
        key: the server's API key.
        host: its address.
    """

    def __init__(self, port: int, key: str, host: str = "127.0.0.1") -> None:
        self._port, self._host = port, host
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def tokenize(self, text: str, *, add_special: bool) -> list[int]:
        """Token ids of a text; names of special tokens in it become those tokens.

        Raises:
            BrokenAnswer: the server is gone.
            PlmEdgeError: it refused the request.
        """
        # As Session.tokenize does: the server accepts no lone surrogate in JSON.
        text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
        body = {"content": text, "add_special": add_special, "parse_special": True}
        return [int(token) for token in self._ask("/tokenize", body)["tokens"]]

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """Run a completion to its end, and return the server's JSON.

        Raises:
            BrokenAnswer: the server is gone.
            PlmEdgeError: it refused the request.
        """
        return self._ask("/completion", body | {"stream": False})

    def stream(self, body: dict[str, Any], stop: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        """Run a completion and yield its events as they come; the last one has "stop": true.

        Args:
            stop: is called often; True ends the stream, and the work of the server.

        Raises:
            BrokenAnswer: the server is gone.
            PlmEdgeError: it refused the request.
        """
        events: queue.Queue[dict[str, Any] | BaseException] = queue.Queue()
        with closing(self._connection()) as connection:
            reader = threading.Thread(
                target=_read, args=(connection, body, self._headers, events), daemon=True
            )
            reader.start()
            while True:
                try:
                    event = events.get(timeout=_POLL)
                except queue.Empty:
                    if stop():
                        return
                    continue
                if isinstance(event, BaseException):
                    raise event
                if event is _END:
                    return
                yield event
                if stop():
                    return

    def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        with closing(self._connection()) as connection:
            try:
                connection.request("POST", path, json.dumps(body), self._headers)
                answer = connection.getresponse()
                data = json.loads(answer.read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise BrokenAnswer(str(error)) from error
        _refuse_errors(answer.status, data)
        return dict(data)

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._host, self._port)


def _read(
    connection: http.client.HTTPConnection,
    body: dict[str, Any],
    headers: dict[str, str],
    events: queue.Queue[dict[str, Any] | BaseException],
) -> None:
    """Put each event of the answer into the queue, then _END or the error that broke it."""
    try:
        payload = json.dumps(body | {"stream": True})
        connection.request("POST", "/completion", payload, headers)
        answer = connection.getresponse()
        if answer.status != 200:
            _refuse_errors(answer.status, json.loads(answer.read()))
        for line in answer:
            kind, _, data = line.partition(b":")
            if kind == b"error":
                _refuse_errors(500, json.loads(data))
            if kind != b"data":
                continue
            event = json.loads(data)
            events.put(event)
            if event.get("stop"):
                events.put(_END)
                return
        raise BrokenAnswer("the answer broke off")
    except PlmEdgeError as error:
        events.put(error)
    except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
        events.put(BrokenAnswer(str(error)))  # AttributeError: the other thread closed it
    except BrokenAnswer as error:
        events.put(error)
    finally:
        with suppress(Exception):
            connection.close()


def _refuse_errors(status: int, data: Any) -> None:
    error = data.get("error") if isinstance(data, dict) else None
    if status == 200 and not error:
        return
    words = error.get("message", error) if isinstance(error, dict) else error
    raise PlmEdgeError(
        "the server refused the request",
        f"{words or data} ({status})",
        "run it again with --debug, and report what it prints",
        ExitCode.DEVICE,
    )
