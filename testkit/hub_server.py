"""A local server that speaks as much of the Hugging Face hub's API as a download asks for.

Beside it, /plain/FILE is the same files at plain addresses.
"""

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
LARGE = (".safetensors", ".bin", ".gguf")  # kept by git-lfs on the hub


@dataclass
class Hub:
    """What the server has, and how it behaves.

    Attributes:
        folder: the files of the repository `name`.
        cuts: how many bytes of a weight file each of the next answers gives before the connection
            breaks.
        spoiled: files served with other bytes than the API says.
        served: (file, first byte) of each answer.
        heads, ranges: whether it knows HEAD at plain addresses, and ranges.
        requests: how many came.
        store: another address of this server, to which it sends who wants a weight file.
        tokens: what each host that was named got as Authorization.
    """

    folder: Path
    url: str = ""
    cuts: list[int] = field(default_factory=list)
    spoiled: set[str] = field(default_factory=set)
    served: list[tuple[str, int]] = field(default_factory=list)
    name: str = NAME
    heads: bool = True
    ranges: bool = True
    requests: int = 0
    store: str = ""
    tokens: dict[str, set[str]] = field(default_factory=dict)
    revisions: set[str] = field(default_factory=lambda: {"main", "v1", COMMIT})

    def info(self) -> dict[str, Any]:
        return {
            "_id": "1",
            "id": self.name,
            "modelId": self.name,
            "sha": COMMIT,
            "private": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": [
                self._sibling(path) for path in sorted(self.folder.rglob("*")) if path.is_file()
            ],
        }

    def _sibling(self, path: Path) -> dict[str, Any]:
        data = path.read_bytes()
        name = path.relative_to(self.folder).as_posix()
        entry = {"rfilename": name, "size": len(data), "blobId": git_hash(data)}
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
            hub.requests += 1
            host, token = self.headers.get("Host", ""), self.headers.get("Authorization", "")
            hub.tokens.setdefault(host, set()).add(token)
            if path.startswith("/plain/"):
                self._plain(hub.folder / path.removeprefix("/plain/"), with_body)
            elif match := re.fullmatch(rf"/api/models/{hub.name}(?:/revision/(.+))?", path):
                if (match[1] or "main") in hub.revisions:
                    self._send(json.dumps(hub.info()).encode(), with_body)
                else:
                    self._fail("RevisionNotFound", with_body)
            elif match := re.fullmatch(rf"/{hub.name}/resolve/([^/]+)/(.+)", path):
                file = hub.folder / match[2]
                if match[1] not in hub.revisions or not file.is_file():
                    self._fail("EntryNotFound", with_body)
                elif hub.store and file.suffix in LARGE:
                    self._redirect(file, with_body)
                else:
                    self._file(file, with_body)
            else:
                self._fail("RepoNotFound", with_body)

        def _redirect(self, file: Path, with_body: bool) -> None:
            name = file.relative_to(hub.folder).as_posix()
            headers = {
                "Location": f"{hub.store}/plain/{name}",
                "X-Repo-Commit": COMMIT,
                "X-Linked-Etag": f'"{etag(file)}"',
                "X-Linked-Size": str(file.stat().st_size),
            }
            self._send(b"", with_body, 302, headers)

        def _plain(self, file: Path, with_body: bool) -> None:
            if not with_body and not hub.heads:
                self._send(b"", with_body, 405)
            elif file.is_file():
                self._file(file, with_body)
            else:
                self._send(b"", with_body, 404)

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
            last = len(data) - 1
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if wanted and hub.ranges:
                first, status = int(wanted[1]), 206
                last = min(last, int(wanted[2] or last))
                headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            if with_body:
                hub.served.append((path.name, first))
            cut = hub.cuts.pop(0) if with_body and path.suffix in LARGE and hub.cuts else None
            self._send(data[first : last + 1], with_body, status, headers, cut)

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
