"""A local server that speaks as much of the Hugging Face hub's API as a download asks for."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "PLM-Team/PLM-8M-Instruct"
LARGE = (".safetensors", ".bin")  # kept by git-lfs on the hub


@dataclass
class Hub:
    """`folder`: the repository's files. `cuts`: how many bytes of a weight file each of the next
    answers gives before the connection breaks. `spoiled`: files served with other bytes than the
    API says. `served`: (file, first byte) of each answer."""

    folder: Path
    url: str = ""
    cuts: list[int] = field(default_factory=list)
    spoiled: set[str] = field(default_factory=set)
    served: list[tuple[str, int]] = field(default_factory=list)
    revisions: set[str] = field(default_factory=lambda: {"main", "v1", COMMIT})

    def info(self) -> dict[str, Any]:
        return {
            "_id": "1",
            "id": NAME,
            "modelId": NAME,
            "sha": COMMIT,
            "private": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": [self._sibling(path) for path in sorted(self.folder.iterdir())],
        }

    def _sibling(self, path: Path) -> dict[str, Any]:
        data = path.read_bytes()
        entry = {"rfilename": path.name, "size": len(data), "blobId": git_hash(data)}
        if path.suffix in LARGE:
            sha = hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"sha256": sha, "size": len(data), "pointerSize": 130}
        return entry


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def etag(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha256(data).hexdigest() if path.suffix in LARGE else git_hash(data)


@contextmanager
def serve(folder: Path) -> Iterator[Hub]:
    hub = Hub(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            if match := re.fullmatch(rf"/api/models/{NAME}(?:/revision/(.+))?", path):
                if (match[1] or "main") in hub.revisions:
                    self._send(json.dumps(hub.info()).encode(), with_body)
                else:
                    self._fail("RevisionNotFound", with_body)
            elif match := re.fullmatch(rf"/{NAME}/resolve/([^/]+)/(.+)", path):
                file = hub.folder / match[2]
                if match[1] in hub.revisions and file.is_file():
                    self._file(file, with_body)
                else:
                    self._fail("EntryNotFound", with_body)
            else:
                self._fail("RepoNotFound", with_body)

        def _fail(self, code: str, with_body: bool) -> None:
            self._send(b"{}", with_body, 404, {"X-Error-Code": code, "X-Error-Message": code})

        def _file(self, path: Path, with_body: bool) -> None:
            data = path.read_bytes()
            tag = etag(path)
            if path.name in hub.spoiled:
                data = data[:-1] + bytes([data[-1] ^ 1])
            headers = {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            if path.suffix in LARGE:
                headers |= {"X-Linked-Etag": f'"{tag}"', "X-Linked-Size": str(len(data))}
            first, status = 0, 200
            if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
                first, status = int(wanted[1]), 206
                headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
            if with_body:
                hub.served.append((path.name, first))
            cut = hub.cuts.pop(0) if with_body and path.suffix in LARGE and hub.cuts else None
            self._send(data[first:], with_body, status, headers, cut)

        def _send(
            self,
            data: bytes,
            with_body: bool,
            status: int = 200,
            headers: dict[str, str] | None = None,
            cut: int | None = None,
        ) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if with_body:
                self.wfile.write(data if cut is None else data[:cut])
            if cut is not None:
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
